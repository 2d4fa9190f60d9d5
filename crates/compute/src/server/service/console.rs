//! The serial console: read on the host at the moment of asking, stored nowhere.

use cloud_types::{Fault, ServerId};
use host_protocol::{HostAnswer, HostQuery};
use service_kit::Ctx;

use super::found;
use crate::Compute;

impl Compute {
    /// The end of a server's serial console: so many lines, or all that its host keeps.
    ///
    /// # Errors
    /// 404, 403, 409 before the server has a host, 503 when the host is not connected.
    pub async fn console_output(
        &self,
        ctx: &Ctx,
        id: ServerId,
        lines: Option<u32>,
    ) -> Result<String, Fault> {
        let caller = ctx.clone();
        let server = self
            .kit()
            .db
            .read(move |tx| {
                let ctx = caller.clone();
                Box::pin(async move { found(tx, &ctx, id, "compute:servers:console_output").await })
            })
            .await?;
        let not_ready = || Fault::conflict(format!("Instance {id} is not ready"));
        let host = server.host.ok_or_else(not_ready)?;
        let query = HostQuery::ConsoleLog { server_id: id.to_string(), lines };
        match self.queries().ask(&host.id, query).await? {
            HostAnswer::ConsoleLog { output } => Ok(printable(&output)),
            HostAnswer::Failed { not_found: true, .. } => Err(not_ready()),
            HostAnswer::Failed { message, .. } => Err(Fault::internal(format!(
                "The console of server {id} cannot be read: {message}"
            ))),
            _ => Err(Fault::internal(format!(
                "The console of server {id} cannot be read: the host answered something else."
            ))),
        }
    }
}

/// A guest writes what it likes; a terminal that shows it must not be driven by it. Nova drops
/// control characters other than line ends and tabs too.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\r' | '\t')).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_guest_cannot_drive_the_readers_terminal() {
        assert_eq!(super::printable("a\u{1b}[2Jb\r\n\tc\0"), "a[2Jb\r\n\tc");
    }
}
