#!/bin/bash
# ./dev up under sudo from an ordinary account: the person's cargo builds, and the person owns what clients need.
# in: verify
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

install_packages packages_to_run packages_to_test
fresh_machine /var/lib/meridian-ordinary-account
inside apt-get update -q >/dev/null
inside env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends sudo >/dev/null
inside useradd --create-home --shell /bin/bash maria
echo 'maria ALL=(ALL) NOPASSWD: ALL' >"$root/etc/sudoers.d/maria"
mv "$root/root/.cargo" "$root/home/maria/.cargo"
git clone -q "$REPO" "$root/work/meridian"
inside chown -R maria:maria /home/maria /work/meridian
maria() { inside su - maria -c "cd /work/meridian && $1" </dev/null; }
began=$(now_ms)
maria "sudo ${program:+MERIDIAN_BINARY=$program} ./dev up --yes"
echo "measured: ./dev up, ${program:+without building, }$(seconds $(($(now_ms) - began)))"
state=$(basename "$(echo "$root"/var/lib/meridian-????????)")
state=/var/lib/$state
expect "SSH into hello" test "$(maria "sudo ./dev ssh hello hostname")" = hello
expect "the client works without sudo" test "$(maria "./dev openstack server show hello -f value -c status")" = ACTIVE
for file in clouds.yaml openrc-demo demo-key; do
	expect "$file is the person's, and nobody else's" test "$(inside stat -c '%U %a' "$state/etc/$file")" = "maria 600"
done
if [ -z "$program" ]; then
	expect "nothing that root built is in the person's way" test -z "$(find "$root/work/meridian/target" -user root -print -quit)"
fi
expect "keys stay root's" test "$(inside stat -c %U "$state/pki/ca.key" 2>/dev/null || inside find "$state/pki" -name '*key*' -printf '%u\n' | sort -u)" = root
maria "sudo ./dev down"
maria "sudo ./dev uninstall --yes"
