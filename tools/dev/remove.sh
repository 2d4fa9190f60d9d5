# shellcheck shell=bash
# Taking away what was made.

# Everything that makes the cloud this cloud; what was only fetched or built (client, packages, logs) stays.
reset() {
	local yes=
	[ "${1:-}" = --yes ] && yes=1
	if [ ! -d "$STATE" ]; then
		echo "No cloud in $STATE."
		return 0
	fi
	[ -n "$yes" ] || confirm "Delete the cloud in $STATE with all its servers, images and users?" || { echo "Nothing was changed."; exit 0; }
	testbed_down
	cloud_down quietly
	rm -rf "$STATE"/{db,postgresql,zone,host,pki,keys,run,testbed}
	find "$STATE/etc" -mindepth 1 \! -name packages-installed \! -name dev.conf -delete 2>/dev/null || true
	forget done_once
	forget api_port
	forget database
	echo "The cloud's data is deleted. ./dev up makes a new one."
}

uninstall() {
	local yes= packages
	[ "${1:-}" = --yes ] && yes=1
	[ -n "$yes" ] || confirm "Remove everything that ./dev made outside $REPO, and the cloud in $STATE?" || { echo "Nothing was changed."; exit 0; }
	packages=$(cat "$STATE/etc/packages-installed" 2>/dev/null | tr '\n' ' ' || true)
	if [ -d "$STATE" ]; then
		reset --yes
		rm -rf "$STATE"
	fi
	rm -f "/run/lock/$PREFIX-dev"
	echo "Removed: $STATE, namespaces and devices of $PREFIX."
	if [ -n "$packages" ]; then
		echo "These Debian packages were installed for Meridian and remain (other things may use them by now):"
		echo "  $packages"
		echo "  To remove them: apt-get remove $packages"
	else
		echo "No Debian package was installed for Meridian."
	fi
	echo "The repository stays, with what was built in $REPO/target (cargo clean empties it)."
}
