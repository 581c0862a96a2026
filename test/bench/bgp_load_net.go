package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/ballast-lb/ballast/test/lab"
)

const (
	// loadRouters is how many routers the section load has.
	loadRouters = 4
	// bgpdPath is FRR's daemon in Debian's package.
	bgpdPath = "/usr/lib/frr/bgpd"
	// vtyLimit bounds one question to a router.
	vtyLimit = 10 * time.Second
)

// loadNetwork is a machine that announces, joined by a cable of its own to each of the routers.
// Their bgpd writes nothing to a kernel: what is measured is who announces.
type loadNetwork struct {
	prefix  string
	dir     string // configuration, sockets and logs
	routers []*loadRouter
}

// loadRouter is a router's daemon and a connection to its command line.
type loadRouter struct {
	daemon *exec.Cmd
	vty    net.Conn
}

// loadAddresses are the router's and the announcing machine's on the cable to router number i, counted from 0.
func loadAddresses(i int) (router, speaker netip.Addr) {
	return netip.AddrFrom4([4]byte{10, 66, byte(i + 1), 2}), netip.AddrFrom4([4]byte{10, 66, byte(i + 1), 1})
}

// newLoadNetwork makes the namespaces and starts the routers. A lab of that prefix must not be up.
func newLoadNetwork(ctx context.Context, prefix string) (n *loadNetwork, err error) {
	for _, path := range []string{bgpdPath, gobgpdPath, gobgpPath} {
		if _, err := os.Stat(path); err != nil {
			return nil, fmt.Errorf("find %s: missing; run tools/deps.sh", path)
		}
	}
	if err := lab.Clean(ctx, prefix); err != nil { // what a killed run has left
		return nil, err
	}
	dir, err := os.MkdirTemp("", "ballast-bench-")
	if err != nil {
		return nil, fmt.Errorf("make folder: %w", err)
	}
	n = &loadNetwork{prefix: prefix, dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.close())
		}
	}()
	if err := n.wire(ctx); err != nil {
		return nil, err
	}
	for i := range loadRouters {
		if err := n.startRouter(ctx, i); err != nil {
			return nil, fmt.Errorf("start router %d: %w", i+1, err)
		}
	}
	return n, nil
}

func (n *loadNetwork) speaker() string { return n.prefix + "-speaker" }

func (n *loadNetwork) router(i int) string { return fmt.Sprintf("%s-r%d", n.prefix, i+1) }

// wire makes the namespaces and the cables.
func (n *loadNetwork) wire(ctx context.Context) error {
	lines := []string{"netns add " + n.speaker()}
	for i := range loadRouters {
		lines = append(lines, "netns add "+n.router(i))
	}
	if err := ipBatch(ctx, "", lines...); err != nil {
		return err
	}
	lines = []string{"link set lo up"}
	for i := range loadRouters {
		router, own := loadAddresses(i)
		lines = append(lines,
			fmt.Sprintf("link add veth%d type veth peer name eth0 netns %s", i, n.router(i)),
			fmt.Sprintf("addr add %s/24 dev veth%d", own, i),
			fmt.Sprintf("link set veth%d up", i))
		err := ipBatch(ctx, n.speaker(), lines...)
		if err == nil {
			err = ipBatch(ctx, n.router(i), "link set lo up", fmt.Sprintf("addr add %s/24 dev eth0", router), "link set eth0 up")
		}
		if err != nil {
			return err
		}
		lines = nil
	}
	return nil
}

// ipBatch runs iproute2 commands, one a line, in a namespace or in the own one.
func ipBatch(ctx context.Context, namespace string, lines ...string) error {
	args := []string{"-batch", "-"}
	if namespace != "" {
		args = append([]string{"-n", namespace}, args...)
	}
	cmd := exec.CommandContext(ctx, "ip", args...)
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("run ip in %q: %w: %s", namespace, err, bytes.TrimSpace(out))
	}
	return nil
}

// loadRouterConfig waits to be dialed and sends no routes.
const loadRouterConfig = `router bgp %[1]d
 bgp router-id %[2]s
 no bgp ebgp-requires-policy
 neighbor %[3]s remote-as %[4]d
 neighbor %[3]s passive
 address-family ipv4 unicast
  neighbor %[3]s route-map nothing out
 exit-address-family
!
route-map nothing deny 10
`

// startRouter starts a bgpd that talks to no zebra, and returns when it answers.
func (n *loadNetwork) startRouter(ctx context.Context, i int) error {
	own, speaker := loadAddresses(i)
	dir := filepath.Join(n.dir, fmt.Sprintf("r%d", i+1))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	config := fmt.Sprintf(loadRouterConfig, lab.RouterASN, own, speaker, lab.NodeASN)
	if err := os.WriteFile(filepath.Join(dir, "bgpd.conf"), []byte(config), 0o600); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	daemon, err := program{namespace: n.router(i), log: filepath.Join(dir, "bgpd.log"), argv: []string{
		bgpdPath, "-S", "-Z", "-f", filepath.Join(dir, "bgpd.conf"), "-i", filepath.Join(dir, "bgpd.pid"), "-A", "127.0.0.1", "-P", "0", "--vty_socket", dir,
	}}.start()
	if err != nil {
		return err
	}
	r := &loadRouter{daemon: daemon}
	n.routers = append(n.routers, r)
	return lab.Poll(ctx, stepLimit, "bgpd answers", func(ctx context.Context) error {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(dir, "bgpd.vty"))
		if err != nil {
			return err
		}
		r.vty = conn
		_, _, err = r.prefixes()
		return err
	})
}

// program is what is to be started.
type program struct {
	namespace string
	log       string   // file that its output is added to
	input     *os.File // nil without one
	argv      []string
}

// start starts a program, which ends at the latest with this process.
func (p program) start() (*exec.Cmd, error) {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command("ip", append([]string{"netns", "exec", p.namespace}, p.argv...)...)
	cmd.Stdout, cmd.Stderr = log, log
	if p.input != nil {
		cmd.Stdin = p.input
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", p.argv[0], err)
	}
	return cmd, nil
}

// close ends the routers and removes the namespaces and files.
func (n *loadNetwork) close() error {
	for _, r := range n.routers {
		if r.vty != nil {
			_ = r.vty.Close()
		}
		_ = r.daemon.Process.Kill()
		_ = r.daemon.Wait() // it was killed
	}
	ctx, cancel := context.WithTimeout(context.Background(), stepLimit)
	defer cancel()
	return errors.Join(lab.Clean(ctx, n.prefix), os.RemoveAll(n.dir))
}

// prefixes asks a router how many it has from its neighbor, and whether the session is up.
func (r *loadRouter) prefixes() (count int, up bool, err error) {
	answer, err := r.ask("show bgp ipv4 unicast summary json")
	if err != nil {
		return 0, false, err
	}
	var summary struct {
		Peers map[string]struct {
			PfxRcd int
			State  string
		}
	}
	if err := json.Unmarshal(answer, &summary); err != nil {
		return 0, false, fmt.Errorf("decode summary: %w: %.100q", err, answer)
	}
	for _, p := range summary.Peers {
		count, up = count+p.PfxRcd, p.State == "Established"
	}
	return count, up, nil
}

// ask sends one command as vtysh does, which ends in a zero byte, and reads the answer, which ends in three and a
// status. A process for each question would take more of the machine than what is measured.
func (r *loadRouter) ask(command string) ([]byte, error) {
	if err := r.vty.SetDeadline(time.Now().Add(vtyLimit)); err != nil {
		return nil, fmt.Errorf("ask bgpd: %w", err)
	}
	if _, err := io.WriteString(r.vty, command+"\x00"); err != nil {
		return nil, fmt.Errorf("ask bgpd: %w", err)
	}
	var answer []byte
	buffer := make([]byte, 1<<14)
	for {
		n, err := r.vty.Read(buffer)
		if err != nil {
			return nil, fmt.Errorf("ask bgpd: %w", err)
		}
		answer = append(answer, buffer[:n]...)
		if end := len(answer) - 4; end >= 0 && bytes.Equal(answer[end:end+3], []byte{0, 0, 0}) {
			return answer[:end], nil
		}
	}
}

// await asks the routers time and again until each has that many prefixes, and its session is up or is not, and says when that was seen.
func (n *loadNetwork) await(ctx context.Context, prefixes int, up bool) (time.Time, error) {
	const interval = 10 * time.Millisecond
	ctx, cancel := context.WithTimeout(ctx, stepLimit)
	defer cancel()
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		var have []int
		good := 0
		for _, r := range n.routers {
			count, is, err := r.prefixes()
			if err != nil {
				return time.Time{}, err
			}
			have = append(have, count)
			if count == prefixes && is == up {
				good++
			}
		}
		if good == len(n.routers) {
			return time.Now(), nil
		}
		select {
		case <-ctx.Done():
			return time.Time{}, fmt.Errorf("wait for %d prefixes on each router: gave up with %v: %w", prefixes, have, context.Cause(ctx))
		case <-ticker.C:
		}
	}
}
