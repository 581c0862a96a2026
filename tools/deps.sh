#!/bin/sh
# Installs the Debian packages that the lab and the tests need: routers, packet tools,
# firewall tools. It starts no daemon on this host, neither routers nor anything else, now or
# when the host boots.
# Idempotent; when nothing is missing it changes nothing and needs no rights.
#
# usage: tools/deps.sh [--check]     --check: only say what is missing
set -eu

packages="arping bird2 conntrack curl ethtool frr gobgpd iproute2 iptables iputils-ping nftables openbgpd procps tcpdump"
policy=/usr/sbin/policy-rc.d

# shellcheck disable=SC2086 # a list of words
installed=" $(dpkg-query -W -f '${Package}:${db:Status-Status} ' $packages 2>/dev/null || true)"
missing=
for p in $packages; do
	case $installed in
	*" $p:installed "*) ;;
	*) missing="$missing $p" ;;
	esac
done
if [ -z "$missing" ]; then
	exit 0
fi
echo "deps: missing:$missing" >&2

if [ "${1:-}" = --check ]; then
	exit 1
fi
if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
	echo "deps: this is no Debian system: install by hand what these Debian packages contain:$missing" >&2
	echo "deps: FRR's daemons are expected in /usr/lib/frr" >&2
	exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
	echo "deps: not root: run this as root: apt-get install --no-install-recommends$missing" >&2
	exit 1
fi

# A package's script asks policy-rc.d before it starts a daemon; 101 forbids it.
saved=
restore() {
	rm -f "$policy"
	if [ -n "$saved" ]; then
		mv "$saved" "$policy"
	fi
}
trap restore EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
if [ -e "$policy" ] || [ -L "$policy" ]; then
	saved=$policy.ballast.$$
	mv "$policy" "$saved"
fi
printf '#!/bin/sh\nexit 101\n' >"$policy"
chmod 755 "$policy"

export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # a list of words
apt-get install -y --no-install-recommends $missing >&2 || {
	apt-get update >&2
	apt-get install -y --no-install-recommends $missing >&2
}

# Nor shall the next boot start them.
if command -v systemctl >/dev/null; then
	for p in $missing; do
		case $p in
		bird2) unit=bird ;;
		frr | gobgpd | openbgpd) unit=$p ;;
		*) continue ;;
		esac
		systemctl disable "$unit" >/dev/null 2>&1 || true
	done
fi
