package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Loss is what a node's cable loses though the link stays up.
type Loss string

// The losses. Neither side can notice but by what does not come: packets are dropped on the
// switch's end of the cable, where no rules of the node reach.
const (
	// LoseSent loses what the node sends.
	LoseSent Loss = "sent"
	// LoseReceived loses what is sent to the node.
	LoseReceived Loss = "received"
	// LoseGossip loses, both ways, the speakers' gossip and heartbeats alone: TCP and UDP, ports 7947 and 7948.
	LoseGossip Loss = "gossip"
)

// rules returns the chains of one nftables table: the switch's ingress is what the node sends.
func (l Loss) rules() (map[string]string, error) {
	const gossip = "meta l4proto { tcp, udp } th dport { 7947, 7948 } drop; meta l4proto { tcp, udp } th sport { 7947, 7948 } drop;"
	switch l {
	case LoseSent:
		return map[string]string{"ingress": "drop;"}, nil
	case LoseReceived:
		return map[string]string{"egress": "drop;"}, nil
	case LoseGossip:
		return map[string]string{"ingress": gossip, "egress": gossip}, nil
	}
	return nil, fmt.Errorf("lose %q: want %s, %s or %s", l, LoseSent, LoseReceived, LoseGossip)
}

// Lose loses packets of the interfaces, or of all, until Mend. A second loss adds to the first.
func (n *Node) Lose(ctx context.Context, loss Loss, ifaces ...string) error {
	chains, err := loss.rules()
	if err != nil {
		return err
	}
	return n.eachPort(ifaces, func(p port) error {
		var text strings.Builder
		for hook, rules := range chains {
			fmt.Fprintf(&text, "table netdev %s {\n chain %s_%s {\n type filter hook %s device \"%s\" priority -500; policy accept;\n %s\n }\n}\n",
				lossTable(p), hook, loss, hook, p.peer, strings.ReplaceAll(rules, ";", "\n"))
		}
		return n.lab.sw.nft(ctx, text.String())
	})
}

// Mend ends all losses of the interfaces, or of all.
func (n *Node) Mend(ctx context.Context, ifaces ...string) error {
	return n.eachPort(ifaces, func(p port) error {
		table := lossTable(p)
		// Adding first makes the deletion work if there is none.
		return n.lab.sw.nft(ctx, fmt.Sprintf("add table netdev %s\ndelete table netdev %s\n", table, table))
	})
}

func lossTable(p port) string { return "lab_" + strings.ReplaceAll(p.peer, "-", "_") }

// Partition splits the LAN: the hosts keep contact with each other, and lose it with all
// others. Their links stay up. A second call makes the island anew.
func (l *Lab) Partition(ctx context.Context, hosts ...string) error {
	if err := l.Heal(ctx); err != nil {
		return err
	}
	var lines []string
	for _, name := range hosts {
		h, err := l.Host(name)
		if err != nil {
			return err
		}
		for _, p := range h.ports {
			if p.bridge == lanBridge {
				lines = append(lines, "link set "+p.peer+" master "+islandBridge)
			}
		}
	}
	return l.sw.ip(ctx, lines...)
}

// Heal undoes Partition.
func (l *Lab) Heal(ctx context.Context) error {
	var lines []string
	for _, h := range l.allHosts() {
		for _, p := range h.ports {
			if p.bridge == lanBridge {
				lines = append(lines, "link set "+p.peer+" master "+lanBridge)
			}
		}
	}
	return l.sw.ip(ctx, lines...)
}

// shutDownTime is how long after the signal a machine that goes down loses its network.
const shutDownTime = 2 * time.Second

// ShutDown is an orderly reboot's first half: SIGTERM to all of the node's processes, and 2 s
// later dead cables; what has not ended by then is killed. PowerOn boots it again.
func (n *Node) ShutDown(ctx context.Context) error {
	processes, began := n.goOff()
	if !began {
		return nil
	}
	n.StopHeartbeat()
	dark, cancel := context.WithTimeout(ctx, shutDownTime)
	defer cancel()
	ends := []func(context.Context) error{}
	for _, p := range processes {
		ends = append(ends, func(context.Context) error {
			_ = p.Stop(dark, syscall.SIGTERM) // or it was killed after 2 s, as init does
			return nil
		})
	}
	err := parallel(ctx, ends...)
	<-dark.Done()
	return errors.Join(err, n.setPorts(ctx, "down", nil), n.goDark(ctx), ctx.Err())
}

// Reboot is ShutDown and, after that time without network, PowerOn.
func (n *Node) Reboot(ctx context.Context, dark time.Duration) error {
	if err := n.ShutDown(ctx); err != nil {
		return err
	}
	return errors.Join(pause(ctx, dark), n.PowerOn(ctx))
}

// StopAPI kills the API server; etcd goes on.
func (l *Lab) StopAPI(ctx context.Context) error {
	p, err := l.Process("apiserver")
	if err != nil {
		return err
	}
	return p.Stop(ctx, syscall.SIGKILL)
}

// StartAPI starts the API server again and returns when it is ready.
func (l *Lab) StartAPI(ctx context.Context) error {
	p, err := l.Process("apiserver")
	if err != nil {
		return err
	}
	if err := p.Start(); err != nil {
		return err
	}
	return l.awaitAPI(ctx)
}

// AnswerFor makes the node's kernel answer ARP requests for an address, as one does that has it
// on lo and not the settings that kube-proxy calls strictARP. StopAnsweringFor undoes it.
func (n *Node) AnswerFor(ctx context.Context, a netip.Addr) error {
	return errors.Join(
		n.ns.sysctl(map[string]string{"net.ipv4.conf.all.arp_ignore": "0", "net.ipv4.conf.eth0.arp_ignore": "0"}),
		n.ns.ip(ctx, fmt.Sprintf("addr replace %s dev lo", netip.PrefixFrom(a, a.BitLen()))))
}

// StopAnsweringFor takes the address away again.
func (n *Node) StopAnsweringFor(ctx context.Context, a netip.Addr) error {
	return errors.Join(
		n.ns.ip(ctx, fmt.Sprintf("addr del %s dev lo", netip.PrefixFrom(a, a.BitLen()))),
		n.ns.sysctl(n.lab.arpParameters("eth0")))
}

// Deregister deletes the Node object; the machine and its processes run on.
func (n *Node) Deregister(ctx context.Context) error {
	err := n.lab.client.CoreV1().Nodes().Delete(ctx, n.Name, metav1.DeleteOptions{})
	if err != nil {
		return fmt.Errorf("delete node %s: %w", n.Name, err)
	}
	return nil
}

// Register makes the Node object again, and returns when it is Ready.
func (n *Node) Register(ctx context.Context) error {
	if err := n.register(ctx); err != nil {
		return err
	}
	return n.awaitReady(ctx)
}

// Throttle lets the process run and pause by turns until Unthrottle, so that it gets the share
// run/(run+rest) of the time. A signal for a pause is SIGSTOP, so a paused process can still be killed.
func (p *Process) Throttle(run, rest time.Duration) error {
	if run <= 0 || rest <= 0 {
		return errors.New("throttle process: both times must be positive")
	}
	p.Unthrottle()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	p.mu.Lock()
	p.throttle = func() { cancel(); <-done }
	p.mu.Unlock()
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			_ = p.Pause() // it may not run just now
			_ = pause(ctx, rest)
			_ = p.Resume()
			_ = pause(ctx, run)
		}
	}()
	return nil
}

// Unthrottle lets the process run on.
func (p *Process) Unthrottle() {
	p.mu.Lock()
	end := p.throttle
	p.throttle = nil
	p.mu.Unlock()
	if end != nil {
		end()
	}
}
