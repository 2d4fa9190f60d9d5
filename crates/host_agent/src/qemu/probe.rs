//! Finds out whether KVM really runs guests.
//!
//! `/dev/kvm` can be there, open, and create a machine, and still not run an ordinary guest in
//! reasonable time: a paravirtual KVM without hardware extensions interprets everything that is
//! not 64-bit code, one instruction at a time, and boot loaders then take hours. So the decision
//! is made by a guest: a boot sector that goes the way of every boot loader, does a fixed amount
//! of work in each mode, takes timer interrupts, and ends the machine with a status of its own.
//!
//! ```text
//!   SeaBIOS ─▶ real mode "R" ─▶ protected mode, 2^24 rounds "P" ─▶ long mode with paging,
//!   2^24 rounds "L" ─▶ 5 timer interrupts "T" ─▶ isa-debug-exit
//! ```
//! Hardware passes in well under a second. Whoever does not pass within [`TIME_LIMIT`] is not used.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::Command;

use crate::config::Accelerator;

/// How long the probe guest may take. Hardware needs 0.2 s; the rest is for a machine under load.
const TIME_LIMIT: Duration = Duration::from_secs(10);
/// What QEMU exits with when the guest writes 16 to the debug port: `(16 << 1) | 1`.
const PASSED: i32 = 33;
/// SeaBIOS does not boot from a disk of a single sector.
const DISK_BYTES: usize = 1024 * 1024;
/// Most of what QEMU says that is repeated to a person.
const MESSAGE_LIMIT: usize = 300;

/// What the probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probed {
    /// What to run guests with.
    pub accelerator: Accelerator,
    /// Why, as a sentence for people.
    pub reason: String,
}

impl Probed {
    fn tcg(reason: String) -> Self {
        Probed { accelerator: Accelerator::Tcg, reason }
    }
}

/// How a probe guest ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    /// It ended in another way; QEMU's exit status and its own words.
    Ended {
        status: String,
        words: String,
        stages: String,
    },
    TimedOut {
        stages: String,
    },
}

/// Runs the probe guest under KVM with `qemu` and decides.
pub async fn probe_kvm(qemu: &Path) -> Probed {
    if let Err(error) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        return Probed::tcg(format!("/dev/kvm cannot be used ({error}); guests are emulated"));
    }
    match run(qemu, Accelerator::Kvm, TIME_LIMIT).await {
        Ok(outcome) => decide(&outcome),
        Err(error) => Probed::tcg(format!(
            "the probe guest could not be started: {error}; guests are emulated"
        )),
    }
}

fn decide(outcome: &Outcome) -> Probed {
    match outcome {
        Outcome::Passed => Probed {
            accelerator: Accelerator::Kvm,
            reason: "a probe guest ran through every processor mode under KVM".to_owned(),
        },
        Outcome::Ended { status, words, stages } => Probed::tcg(format!(
            "KVM ended the probe guest {} ({status}{}{words}); guests are emulated",
            reached(stages),
            if words.is_empty() { "" } else { ": " },
        )),
        Outcome::TimedOut { stages } => Probed::tcg(format!(
            "under KVM the probe guest was not done after {} s, {}; guests are emulated",
            TIME_LIMIT.as_secs(),
            reached(stages),
        )),
    }
}

/// Says how far the guest came, from the letters that it wrote.
fn reached(stages: &str) -> &'static str {
    match stages.chars().rfind(char::is_ascii_uppercase) {
        None => "before its first instruction",
        Some('R') => "in protected mode",
        Some('P') => "in long mode",
        Some('L') => "waiting for timer interrupts",
        Some(_) => "at its end",
    }
}

async fn run(qemu: &Path, accelerator: Accelerator, limit: Duration) -> std::io::Result<Outcome> {
    let mut disk = tempfile::NamedTempFile::new()?;
    let mut image = boot_sector().to_vec();
    image.resize(DISK_BYTES, 0);
    disk.write_all(&image)?;
    disk.flush()?;
    let path = disk.path().to_str().filter(|path| !path.contains(',')).ok_or_else(|| {
        std::io::Error::other("the directory for temporary files has an unusual name")
    })?;
    let cpu = match accelerator {
        Accelerator::Kvm => "host",
        Accelerator::Tcg => "qemu64",
    };
    let mut child = Command::new(qemu)
        .args(["-accel", accelerator.as_str(), "-cpu", cpu, "-machine", "q35", "-m", "32"])
        .args([
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
            "-serial",
            "stdio",
        ])
        .args(["-drive", &format!("file={path},if=none,id=probe,format=raw,readonly=on")])
        .args(["-device", "virtio-blk-pci,drive=probe"])
        .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=1"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut stages = Vec::new();
    let mut words = Vec::new();
    let serial = child.stdout.take();
    let errors = child.stderr.take();
    let finished = tokio::time::timeout(limit, async {
        // Both are read to their ends, so that neither can fill up and hold the guest.
        let read_serial = async {
            if let Some(mut serial) = serial {
                let mut byte = [0_u8; 64];
                while let Ok(count @ 1..) = serial.read(&mut byte).await {
                    stages.extend_from_slice(&byte[..count]);
                }
            }
        };
        let read_errors = async {
            if let Some(errors) = errors {
                let _ = errors.take(64 * 1024).read_to_end(&mut words).await;
            }
        };
        tokio::join!(read_serial, read_errors, child.wait()).2
    })
    .await;
    let stages = String::from_utf8_lossy(&stages).into_owned();
    match finished {
        Err(_) => {
            child.kill().await?;
            Ok(Outcome::TimedOut { stages })
        }
        Ok(status) => {
            let status = status?;
            if status.code() == Some(PASSED) {
                return Ok(Outcome::Passed);
            }
            let words: String =
                String::from_utf8_lossy(&words).trim().chars().take(MESSAGE_LIMIT).collect();
            Ok(Outcome::Ended { status: status.to_string(), words, stages })
        }
    }
}

// The boot sector. It is assembled with the program, at whatever address, and runs at 0x7c00:
// every address in it is therefore written as an offset from its start.
// In memory: 0x1000, 0x2000, 0x3000 page tables (the first 2 MiB, as they are); 0x4000 interrupt
// table with one entry, 0x20.
std::arch::global_asm!(
    ".pushsection .rodata.meridian_probe, \"a\"",
    ".balign 16",
    // Global and hidden: what refers to it may be in another object of this crate.
    ".globl meridian_probe_start",
    ".hidden meridian_probe_start",
    "meridian_probe_start:",
    ".code16",
    "cli",
    "cld",
    "xor eax, eax",
    "mov ds, ax",
    "mov es, ax",
    "mov ss, ax",
    "mov sp, 0x7c00",
    "mov dx, 0x3f8",
    "mov al, 'R'",
    "out dx, al",
    // Clear 0x1000 to 0x5000.
    "xor eax, eax",
    "mov di, 0x1000",
    "mov cx, 0x1000",
    "rep stosd",
    // lgdt
    ".byte 0x0f, 0x01, 0x16",
    ".2byte 0x7c00 + (meridian_probe_gdt_pointer - meridian_probe_start)",
    "mov eax, cr0",
    "or al, 1",
    "mov cr0, eax",
    // Far jump into protected mode.
    ".byte 0xea",
    ".2byte 0x7c00 + (meridian_probe_protected - meridian_probe_start), 0x18",
    ".code32",
    "meridian_probe_protected:",
    "mov eax, 0x10",
    "mov ds, eax",
    "mov es, eax",
    "mov ss, eax",
    "mov ecx, 0x1000000",
    "2:",
    "dec ecx",
    "jnz 2b",
    "mov dx, 0x3f8",
    "mov al, 'P'",
    "out dx, al",
    // Page tables, PAE, long mode, paging.
    "mov dword ptr [0x1000], 0x2003",
    "mov dword ptr [0x2000], 0x3003",
    "mov dword ptr [0x3000], 0x83",
    "mov eax, cr4",
    "or al, 0x20",
    "mov cr4, eax",
    "mov eax, 0x1000",
    "mov cr3, eax",
    "mov ecx, 0xc0000080",
    "rdmsr",
    "or ah, 1",
    "wrmsr",
    "mov eax, cr0",
    "or eax, 0x80000000",
    "mov cr0, eax",
    // Far jump into long mode.
    ".byte 0xea",
    ".4byte 0x7c00 + (meridian_probe_long - meridian_probe_start)",
    ".2byte 8",
    ".code64",
    "meridian_probe_long:",
    "mov eax, 0x10",
    "mov ds, eax",
    "mov es, eax",
    "mov ss, eax",
    "mov esp, 0x7c00",
    "mov ecx, 0x1000000",
    "2:",
    "dec ecx",
    "jnz 2b",
    "mov dx, 0x3f8",
    "mov al, 'L'",
    "out dx, al",
    // Vector 0x20 and the interrupt table.
    "mov edi, 0x4200",
    // mov eax, selector 8 and the handler's offset
    ".byte 0xb8",
    ".4byte 0x00087c00 + (meridian_probe_tick - meridian_probe_start)",
    "mov dword ptr [rdi], eax",
    "mov dword ptr [rdi + 4], 0x8e00",
    // mov edi, the interrupt table's pointer
    ".byte 0xbf",
    ".4byte 0x7c00 + (meridian_probe_idt_pointer - meridian_probe_start)",
    "lidt [rdi]",
    // Interrupt controllers: lines 0 to 7 at vector 0x20, only the timer open.
    "mov al, 0x11",
    "out 0x20, al",
    "mov al, 0x20",
    "out 0x21, al",
    "mov al, 4",
    "out 0x21, al",
    "mov al, 1",
    "out 0x21, al",
    "mov al, 0xfe",
    "out 0x21, al",
    "mov al, 0xff",
    "out 0xa1, al",
    // Timer: 100 interrupts a second.
    "mov al, 0x34",
    "out 0x43, al",
    "mov al, 0x9c",
    "out 0x40, al",
    "mov al, 0x2e",
    "out 0x40, al",
    "xor ebx, ebx",
    "sti",
    "2:",
    "hlt",
    "cmp ebx, 5",
    "jb 2b",
    "cli",
    "mov dx, 0x3f8",
    "mov al, 'T'",
    "out dx, al",
    "mov al, 0x10",
    "out 0xf4, al",
    "3:",
    "hlt",
    "jmp 3b",
    "meridian_probe_tick:",
    "inc ebx",
    "push rax",
    "mov al, 0x20",
    "out 0x20, al",
    "pop rax",
    "iretq",
    ".balign 8",
    "meridian_probe_gdt:",
    ".8byte 0",
    ".8byte 0x00209a0000000000", // 0x08: 64-bit code
    ".8byte 0x00cf92000000ffff", // 0x10: data
    ".8byte 0x00cf9a000000ffff", // 0x18: 32-bit code
    "meridian_probe_gdt_pointer:",
    ".2byte 31",
    ".4byte 0x7c00 + (meridian_probe_gdt - meridian_probe_start)",
    "meridian_probe_idt_pointer:",
    ".2byte 0x21 * 16 - 1",
    ".8byte 0x4000",
    ".org meridian_probe_start + 510",
    ".2byte 0xaa55",
    ".popsection",
);

unsafe extern "C" {
    #[link_name = "meridian_probe_start"]
    static BOOT_SECTOR: [u8; 512];
}

/// The boot sector's 512 bytes.
fn boot_sector() -> &'static [u8; 512] {
    // SAFETY: the symbol is defined by the assembly above, in read-only data, and `.org` makes
    // what follows it exactly 512 bytes long; bytes need no alignment and are never written.
    unsafe { &BOOT_SECTOR }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_sector_is_one() {
        assert_eq!(boot_sector()[510..], [0x55, 0xaa]);
        assert_eq!(boot_sector()[0], 0xfa, "it begins with cli");
    }

    #[test]
    fn only_a_passed_probe_chooses_kvm() {
        assert_eq!(decide(&Outcome::Passed).accelerator, Accelerator::Kvm);
        let slow = decide(&Outcome::TimedOut { stages: "R".into() });
        assert_eq!(slow.accelerator, Accelerator::Tcg);
        assert!(slow.reason.contains("in protected mode"), "{}", slow.reason);
        let refused = decide(&Outcome::Ended {
            status: "exit status: 1".into(),
            words: "no permission".into(),
            stages: String::new(),
        });
        assert_eq!(refused.accelerator, Accelerator::Tcg);
        assert!(refused.reason.contains("no permission"), "{}", refused.reason);
    }

    /// Whatever this machine's KVM does, there is an answer in time.
    #[tokio::test]
    async fn an_answer_comes_in_time() {
        let probed = tokio::time::timeout(
            TIME_LIMIT + Duration::from_secs(30),
            probe_kvm(Path::new("/usr/bin/qemu-system-x86_64")),
        )
        .await
        .expect("the probe ends");
        println!("{} {}", probed.accelerator.as_str(), probed.reason);
        assert!(!probed.reason.is_empty());
    }

    /// The payload itself is right: it passes under emulation.
    #[tokio::test]
    async fn the_probe_guest_passes_under_emulation() {
        let outcome = run(
            Path::new("/usr/bin/qemu-system-x86_64"),
            Accelerator::Tcg,
            Duration::from_secs(120),
        )
        .await
        .expect("QEMU starts");
        assert_eq!(outcome, Outcome::Passed);
    }
}
