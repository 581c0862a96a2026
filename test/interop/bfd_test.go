//go:build e2e

package interop

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// frrBFD is a session in bfdd's words.
type frrBFD struct {
	Peer, Status     string
	Diagnostic       string `json:"diagnostic"`
	RemoteDiagnostic string `json:"remote-diagnostic"`
	RemoteReceive    int    `json:"remote-receive-interval"`
	RemoteTransmit   int    `json:"remote-transmit-interval"`
	RemoteMultiplier int    `json:"remote-detect-multiplier"`
}

// frrBFD is what bfdd says of the session over a path.
func (r *router) frrBFD(p bfdPath) frrBFD {
	r.t.Helper()
	out, err := r.try("bfdd", "show bfd peers json")
	must(r.t, err)
	var all []frrBFD
	if err := json.Unmarshal(out, &all); err != nil {
		r.t.Fatalf("show bfd peers: %v: %s", err, out)
	}
	for _, s := range all {
		if s.Peer == p.node.String() {
			return s
		}
	}
	return frrBFD{Status: "none"}
}

// frrPeer is the line of configuration that begins what is said of a path's session.
func frrPeer(p bfdPath) string {
	if p.multihop {
		return fmt.Sprintf("peer %s multihop local-address %s", p.node, p.router)
	}
	return fmt.Sprintf("peer %s local-address %s interface eth0", p.node, p.router)
}

func TestBFDWithFRR(t *testing.T) {
	t.Parallel()
	b := newBFDRig(t, 254)
	config, running := "", false
	b.bfdDaemon = bfdDaemon{
		start: func() *exec.Cmd {
			if !running {
				b.r.daemon("zebra", "")
				running = true
			}
			return b.r.daemon("bfdd", config, "--bfdctl", filepath.Join(b.r.dir, "bfdd.sock"))
		},
		configure: func(receive, transmit int) {
			config = "bfd\n"
			for _, p := range b.paths {
				lines := []string{frrPeer(p), fmt.Sprintf("receive-interval %d", receive), fmt.Sprintf("transmit-interval %d", transmit), fmt.Sprintf("detect-multiplier %d", multiplier)}
				config += strings.Join(append(lines, "exit"), "\n") + "\n"
				if running {
					b.r.configure("bfdd", append([]string{"bfd"}, lines...)...)
				}
			}
		},
		state: func(p bfdPath) string { return b.r.frrBFD(p).Status },
		timers: func(p bfdPath) string {
			s := b.r.frrBFD(p)
			return fmt.Sprintf("receive %d transmit %d multiplier %d", s.RemoteReceive, s.RemoteTransmit, s.RemoteMultiplier)
		},
		begun:   "receive 300 transmit 200 multiplier 8",
		changed: "receive 500 transmit 400 multiplier 8",
		ended: func(p bfdPath) string {
			s := b.r.frrBFD(p)
			return s.Status + " " + s.RemoteDiagnostic
		},
	}
	b.all()
}

// birdBFD is what BIRD says of the session over a path: the state, the interval at which it sends and the time after which it
// takes us for gone.
func (r *router) birdBFD(p bfdPath) (state, timers string) {
	r.t.Helper()
	for line := range strings.Lines(birdc(r, "show", "bfd", "sessions")) {
		fields := strings.Fields(line)
		if len(fields) < 6 {
			continue
		}
		if address, _, _ := strings.Cut(fields[0], "%"); address == p.node.String() {
			return strings.ToLower(fields[2]), strings.Join(fields[len(fields)-2:], " ")
		}
	}
	return "none", ""
}

func TestBFDWithBIRD(t *testing.T) {
	t.Parallel()
	b := newBFDRig(t, 64) // over several hops BIRD sends with the kernel's default
	running := false
	b.bfdDaemon = bfdDaemon{
		start: func() *exec.Cmd {
			running = true
			bird := b.r.run("bird", "-f", "-c", filepath.Join(b.r.dir, "bird.conf"), "-s", filepath.Join(b.r.dir, "bird.ctl"), "-P", filepath.Join(b.r.dir, "bird.pid"))
			eventually(t, "bird", func() string { return fmt.Sprint(strings.Contains(birdc(b.r, "show", "status"), "Daemon is up")) }, "true")
			return bird
		},
		configure: func(receive, transmit int) {
			intervals := fmt.Sprintf("min rx interval %d ms; min tx interval %d ms; idle tx interval 1 s; multiplier %d;", receive, transmit, multiplier)
			lines := []string{
				"router id 10.88.0.1;", "log stderr all;", "protocol device { }",
				"protocol bfd { interface \"*\" { " + intervals + " }; multihop { " + intervals + " };",
			}
			for _, p := range b.paths {
				if p.multihop {
					lines = append(lines, fmt.Sprintf(" neighbor %s local %s multihop on;", p.node, p.router))
				} else {
					lines = append(lines, fmt.Sprintf(" neighbor %s dev \"eth0\" local %s;", p.node, p.router))
				}
			}
			b.r.write("bird.conf", strings.Join(append(lines, "}"), "\n")+"\n")
			if running {
				if out := birdc(b.r, "configure"); !strings.Contains(out, "econfigur") {
					t.Fatalf("birdc configure: %s", out)
				}
			}
		},
		state:   func(p bfdPath) string { state, _ := b.r.birdBFD(p); return state },
		timers:  func(p bfdPath) string { _, timers := b.r.birdBFD(p); return timers },
		begun:   "0.300 2.800",
		changed: "0.500 3.200",
		// BIRD shows no diagnostic.
		ended: func(p bfdPath) string { state, _ := b.r.birdBFD(p); return state + " administratively down" },
	}
	b.all()
}
