package lab

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
)

// frrDir is where Debian's frr package keeps its daemons.
const frrDir = "/usr/lib/frr"

// routerConfig accepts any neighbor from the LAN whose AS is not the router's own. The
// dynamic neighbors' AS, address family and number are the speaker's to choose.
const routerConfig = `hostname %[1]s
log stdout informational
service integrated-vtysh-config
!
router bgp %[2]d
 bgp router-id %[3]s
 bgp log-neighbor-changes
 no bgp ebgp-requires-policy
 no bgp default ipv4-unicast
 bgp bestpath as-path multipath-relax
 neighbor nodes peer-group
 neighbor nodes remote-as external
 bgp listen range %[4]s peer-group nodes
 bgp listen range %[5]s peer-group nodes
 !
 address-family ipv4 unicast
  neighbor nodes activate
  maximum-paths 64
 exit-address-family
 !
 address-family ipv6 unicast
  neighbor nodes activate
  maximum-paths 64
 exit-address-family
!
`

// startRouters starts zebra, bgpd and bfdd on every router.
func (l *Lab) startRouters(ctx context.Context) error {
	starts := []func(context.Context) error{}
	for i := range l.opts.Routers {
		starts = append(starts, func(ctx context.Context) error { return l.startRouter(ctx, fmt.Sprintf("r%d", i+1)) })
	}
	return parallel(ctx, starts...)
}

func (l *Lab) startRouter(ctx context.Context, name string) error {
	h := l.hosts[name]
	dir := l.state.path(name)
	if err := l.prepareRouter(h, dir); err != nil {
		return fmt.Errorf("prepare router %s: %w", name, err)
	}
	zebra := l.newDaemon(h, dir, "zebra")
	if err := zebra.Start(); err != nil {
		return err
	}
	err := Poll(ctx, waitLimit, "zebra listens on "+name, func(context.Context) error {
		_, err := os.Stat(filepath.Join(dir, "zserv.api"))
		return err
	})
	if err != nil {
		return err
	}
	for _, daemon := range []string{"bgpd", "bfdd"} {
		if err := l.newDaemon(h, dir, daemon).Start(); err != nil {
			return err
		}
	}
	return Poll(ctx, waitLimit, "bgpd answers on "+name, func(ctx context.Context) error {
		out, err := l.Vtysh(ctx, name, "show bgp summary", "show bfd peers")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		if strings.Contains(out, "not running") {
			return fmt.Errorf("vtysh says: %s", firstLine(out))
		}
		return nil
	})
}

// prepareRouter makes the folder of a router's configuration, pid files and sockets. FRR's
// daemons change to the user frr once they run.
func (l *Lab) prepareRouter(h *Host, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	config := fmt.Sprintf(routerConfig, h.Name, RouterASN, h.IPv4, lanV4, lanV6)
	files := map[string]string{
		"bgpd.conf": config, "zebra.conf": "hostname " + h.Name + "\nlog stdout informational\n",
		"bfdd.conf": "hostname " + h.Name + "\nlog stdout informational\n", "vtysh.conf": "",
	}
	frr, err := user.Lookup("frr")
	if err != nil {
		return fmt.Errorf("find user frr: %w; run tools/deps.sh", err)
	}
	uid, _ := strconv.Atoi(frr.Uid)
	gid, _ := strconv.Atoi(frr.Gid)
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
			return err
		}
		if err := os.Chown(path, uid, gid); err != nil {
			return err
		}
	}
	return os.Chown(dir, uid, gid)
}

func (l *Lab) newDaemon(h *Host, dir, daemon string) *Process {
	argv := []string{
		filepath.Join(frrDir, daemon),
		"-f", filepath.Join(dir, daemon+".conf"), "-i", filepath.Join(dir, daemon+".pid"),
		"-z", filepath.Join(dir, "zserv.api"), "--vty_socket", dir, "-A", "127.0.0.1", "-P", "0",
	}
	if daemon == "bfdd" {
		argv = append(argv, "--bfdctl", filepath.Join(dir, "bfdd.sock"))
	}
	return l.newProcess(daemon+"-"+h.Name, h, argv...)
}

// Vtysh runs FRR commands on a router, for example "show ip bgp", and returns their output.
func (l *Lab) Vtysh(ctx context.Context, router string, commands ...string) (string, error) {
	args := append([]string{"vtysh"}, vtyshArgs(l.state.dir, router)...)
	for _, c := range commands {
		args = append(args, "-c", c)
	}
	return l.Exec(ctx, router, args...)
}

func vtyshArgs(stateDir, router string) []string {
	dir := filepath.Join(stateDir, router)
	return []string{"--vty_socket", dir, "--config_dir", dir}
}
