package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/go-logr/logr/funcr"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/bgp"
	"github.com/ballast-lb/ballast/internal/name"
	"github.com/ballast-lb/ballast/test/lab"
)

const (
	// announcerVerb is how bench calls itself to be Ballast's BGP alone.
	announcerVerb = "announcer"
	// gobgpdPath and gobgpPath are Debian's.
	gobgpdPath, gobgpPath = "/usr/bin/gobgpd", "/usr/bin/gobgp"
)

// loadPrefix is the one with that number, of the pool of the other sections.
func loadPrefix(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{198, byte(18 + i>>16), byte(i >> 8), byte(i)}), 32)
}

// announcing is a running program that announces to the routers.
type announcing struct {
	cmd *exec.Cmd
	// announce and withdraw ask it for that; what the routers see says when it is done.
	announce, withdraw func(context.Context) error
	// announced, if set, is told when the routers have all.
	announced func() error
	input     io.Closer // nil without one
}

// end ends the program, and returns the most memory that it ever had, in bytes.
func (a *announcing) end() (int64, error) {
	if a.input != nil {
		_ = a.input.Close()
	}
	_ = a.cmd.Process.Signal(syscall.SIGTERM)
	timer := time.AfterFunc(stepLimit, func() { _ = a.cmd.Process.Kill() })
	defer timer.Stop()
	_ = a.cmd.Wait() // ended by a signal
	usage, ok := a.cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return 0, errors.New("ask for the memory of an ended process: no answer")
	}
	return usage.Maxrss << 10, nil
}

// startBallast starts Ballast's BGP in a process of its own.
func (n *loadNetwork) startBallast(_ context.Context, routes int) (*announcing, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make pipe: %w", err)
	}
	defer func() { _ = read.Close() }()
	cmd, err := n.start(read, self, announcerVerb)
	if err != nil {
		_ = write.Close()
		return nil, err
	}
	say := func(word string) func(context.Context) error {
		return func(context.Context) error {
			if _, err := fmt.Fprintf(write, "%s %d\n", word, routes); err != nil {
				return fmt.Errorf("tell the announcer: %w", err)
			}
			return nil
		}
	}
	return &announcing{cmd: cmd, announce: say("announce"), withdraw: say("withdraw"), input: write}, nil
}

// log is the log of whoever announces.
func (n *loadNetwork) log() string { return filepath.Join(n.dir, "announcer.log") }

// start starts a program on the announcing machine, with an input or nil.
func (n *loadNetwork) start(input *os.File, argv ...string) (*exec.Cmd, error) {
	return program{namespace: n.speaker(), log: n.log(), input: input, argv: argv}.start()
}

// announcer is Ballast's BGP without the rest of a speaker: it does what its standard input says until that ends.
func announcer(ctx context.Context, input io.Reader) error {
	log := funcr.New(func(prefix, args string) { fmt.Fprintln(os.Stderr, prefix, args) }, funcr.Options{LogTimestamp: true})
	server := bgp.New(bgp.Config{NodeName: "bench", RouterID: netip.MustParseAddr("10.66.0.1"), Log: log})
	var names []name.PeerName
	var peers []announce.Peer
	for i := range loadRouters {
		router, own := loadAddresses(i)
		names = append(names, name.PeerName(fmt.Sprintf("r%d", i+1)))
		peers = append(peers, announce.Peer{
			Name: names[i], MyASN: lab.NodeASN, PeerASN: lab.RouterASN, Address: router, IPv4: true, NextHop4: own, Connect: time.Second,
		})
	}
	server.SetPeers(peers)
	server.Sync()
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	for lines := bufio.NewScanner(input); lines.Scan(); {
		var word string
		var routes int
		if _, err := fmt.Sscan(lines.Text(), &word, &routes); err != nil {
			break
		}
		for i := range routes {
			key := name.ServiceKey{Namespace: namespace, Name: numbered("load-", i)}
			if word == "announce" {
				server.Set(key, []announce.Route{{Prefix: loadPrefix(i), Peers: names}})
			} else {
				server.Remove(key)
			}
		}
	}
	cancel()
	return <-done
}

// gobgpdGlobal and gobgpdNeighbor are gobgpd's configuration.
const (
	gobgpdGlobal = `[global.config]
  as = %d
  router-id = "10.66.0.1"
  port = -1
`
	gobgpdNeighbor = `[[neighbors]]
  [neighbors.config]
    neighbor-address = "%s"
    peer-as = %d
  [neighbors.timers.config]
    connect-retry = 1
    idle-hold-time-after-reset = 1
`
)

// startGoBGP starts Debian's gobgpd, and returns when it takes commands.
func (n *loadNetwork) startGoBGP(ctx context.Context, routes int) (*announcing, error) {
	config := filepath.Join(n.dir, "gobgpd.toml")
	var text strings.Builder
	fmt.Fprintf(&text, gobgpdGlobal, lab.NodeASN)
	for i := range loadRouters {
		router, _ := loadAddresses(i)
		fmt.Fprintf(&text, gobgpdNeighbor, router, lab.RouterASN)
	}
	if err := os.WriteFile(config, []byte(text.String()), 0o600); err != nil {
		return nil, fmt.Errorf("write configuration: %w", err)
	}
	cmd, err := n.start(nil, gobgpdPath, "-f", config, "--api-hosts=127.0.0.1:50051", "--pprof-disable")
	if err != nil {
		return nil, err
	}
	a := &announcing{cmd: cmd, withdraw: func(ctx context.Context) error { return n.gobgp(ctx, "global", "rib", "del", "all") }}
	a.announce = func(context.Context) error {
		a.announced, err = n.inject(mrtTable(routes))
		return err
	}
	err = lab.Poll(ctx, stepLimit, "gobgpd answers", func(ctx context.Context) error { return n.gobgp(ctx, "neighbor") })
	if err != nil {
		_, ended := a.end()
		return nil, errors.Join(err, ended)
	}
	return a, nil
}

// gobgp runs gobgpd's client.
func (n *loadNetwork) gobgp(ctx context.Context, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, stepLimit)
	defer cancel()
	out, err := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", n.speaker(), gobgpPath}, args...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("run gobgp %s: %w: %s", args[0], err, out)
	}
	return nil
}

// inject gives the client routes. At the end of its input it ends at once, and gobgpd gets a part of them (seen with 3.10), so the
// input stays open until done is called.
func (n *loadNetwork) inject(table []byte) (done func() error, err error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make pipe: %w", err)
	}
	defer func() { _ = read.Close() }()
	cmd, err := n.start(read, gobgpPath, "mrt", "inject", "global", "/dev/stdin")
	if err != nil {
		_ = write.Close()
		return nil, err
	}
	done = func() error {
		_ = write.Close()
		timer := time.AfterFunc(stepLimit, func() { _ = cmd.Process.Kill() })
		defer timer.Stop()
		if err := cmd.Wait(); err != nil {
			return fmt.Errorf("run gobgp mrt inject: %w", err)
		}
		return nil
	}
	if _, err := write.Write(table); err != nil {
		return nil, errors.Join(fmt.Errorf("give routes to gobgp: %w", err), done())
	}
	return done, nil
}

// mrtTable are routes as gobgp reads many of them from a file: a peer index table and an entry each,
// RFC 6396 section 4.3. The next hop 0.0.0.0 stands for gobgpd's own address on each session.
func mrtTable(routes int) []byte {
	const tableDumpV2, peerIndexTable, ribIPv4Unicast = 13, 1, 2
	record := func(out []byte, subtype uint16, body []byte) []byte {
		out = binary.BigEndian.AppendUint32(out, 0) // the time
		out = binary.BigEndian.AppendUint16(out, tableDumpV2)
		out = binary.BigEndian.AppendUint16(out, subtype)
		out = binary.BigEndian.AppendUint32(out, uint32(len(body)))
		return append(out, body...)
	}
	index := []byte{10, 66, 0, 1, 0, 0, 0, 1, 2 /* a 4-octet AS number */, 10, 66, 0, 1, 10, 66, 0, 1}
	out := record(nil, peerIndexTable, binary.BigEndian.AppendUint32(index, lab.NodeASN))
	// ORIGIN IGP, an empty AS_PATH, NEXT_HOP: RFC 4271 section 4.3.
	attributes := []byte{0x40, 1, 1, 0, 0x40, 2, 0, 0x40, 3, 4, 0, 0, 0, 0}
	for i := range routes {
		prefix := loadPrefix(i)
		body := binary.BigEndian.AppendUint32(nil, uint32(i))
		body = append(append(body, byte(prefix.Bits())), prefix.Addr().AsSlice()...)
		body = append(body, 0, 1 /* entry */, 0, 0 /* peer */, 0, 0, 0, 0 /* time */)
		body = binary.BigEndian.AppendUint16(body, uint16(len(attributes)))
		out = record(out, ribIPv4Unicast, append(body, attributes...))
	}
	return out
}
