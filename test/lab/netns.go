package lab

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// netnsDir is where iproute2 keeps named network namespaces.
const netnsDir = "/run/netns"

// netns is an open network namespace. It is safe for use by many goroutines.
type netns struct {
	name string
	file *os.File
}

// openNetns opens the namespace that `ip netns add` made.
func openNetns(name string) (*netns, error) {
	f, err := os.Open(filepath.Join(netnsDir, name))
	if err != nil {
		return nil, fmt.Errorf("open network namespace: %w", err)
	}
	return &netns{name: name, file: f}, nil
}

// do runs fn on a thread that is in the namespace. Goroutines that fn starts are not.
func (n *netns) do(fn func() error) error {
	errc := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := n.enter()
		if err != nil {
			errc <- err
			return // still locked: the thread ends with the goroutine
		}
		defer home.Close()
		err = fn()
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		errc <- err
	}()
	return <-errc
}

// enter moves the calling thread, which must be locked, into the namespace and returns
// the one that it was in.
func (n *netns) enter() (*os.File, error) {
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("open own network namespace: %w", err)
	}
	if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
		home.Close()
		return nil, fmt.Errorf("enter network namespace %s: %w", n.name, err)
	}
	return home, nil
}

// dial connects from inside the namespace. addr must be an IP address with a port,
// because names would be looked up by goroutines that are elsewhere.
func (n *netns) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var conn net.Conn
	err := n.do(func() (err error) {
		conn, err = (&net.Dialer{}).DialContext(ctx, network, addr)
		return err
	})
	return conn, err
}

// sysctl sets kernel parameters of the namespace. A key that the kernel lacks is an error.
func (n *netns) sysctl(values map[string]string) error {
	return n.do(func() error {
		for key, value := range values {
			path := filepath.Join("/proc/sys", strings.ReplaceAll(key, ".", "/"))
			if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
				return fmt.Errorf("set sysctl %s: %w", key, err)
			}
		}
		return nil
	})
}

// ip runs iproute2 commands in the namespace, one a line, without the leading "ip".
func (n *netns) ip(ctx context.Context, lines ...string) error {
	cmd := exec.CommandContext(ctx, "ip", "-n", n.name, "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("run ip -n %s: %w: %s", n.name, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// nft runs nftables commands in the namespace, all or none.
func (n *netns) nft(ctx context.Context, text string) error {
	cmd := exec.CommandContext(ctx, "ip", "netns", "exec", n.name, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("run nft in %s: %w: %s", n.name, err, strings.TrimSpace(string(out)))
	}
	return nil
}

func (n *netns) close() { n.file.Close() }
