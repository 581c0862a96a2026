package storm

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/ballast-lb/ballast/test/lab"
)

// driver begins and ends faults in a lab.
type driver struct {
	lab *lab.Lab
	// number of the fault within the run, which names what it leaves in the switch.
	number int
}

// name is what the fault's rules are called.
func (d driver) name() string { return fmt.Sprintf("storm%d", d.number) }

// begin brings the fault about.
func (d driver) begin(ctx context.Context, f Fault) error {
	if lanes := d.lanes(f); len(lanes) > 0 {
		if f.Kind == NodeFrozen {
			if err := d.eachProcess(f, (*lab.Process).Pause); err != nil {
				return err
			}
		}
		return d.lab.Block(ctx, d.name(), lanes...)
	}
	switch f.Kind {
	case APIStopped:
		return d.lab.StopAPI(ctx)
	case SpeakerFrozen, SpeakerSlow, SpeakerRestarted, SpeakerKilled, SpeakerStopped:
		return d.disturb(ctx, f)
	}
	n, err := d.lab.NodeNamed(f.Nodes[0])
	if err != nil {
		return err
	}
	switch f.Kind {
	case CableCut:
		return n.Cut(ctx, d.interfaces(n, f)...)
	case GossipRejected:
		return n.RejectGossip(ctx)
	case PowerLost:
		return n.PowerOff(ctx)
	case Renumbered:
		return n.Renumber(ctx, lab.AddressAt(f.Value))
	case WrongMask:
		return n.SetMask(ctx, f.Value)
	}
	return fmt.Errorf("begin fault: %q is unknown", f.Kind)
}

// end undoes it.
func (d driver) end(ctx context.Context, f Fault) error {
	if len(d.lanes(f)) > 0 {
		err := d.lab.Unblock(ctx, d.name())
		if f.Kind == NodeFrozen {
			err = errors.Join(err, d.eachProcess(f, (*lab.Process).Resume))
		}
		return err
	}
	switch f.Kind {
	case APIStopped:
		return d.lab.StartAPI(ctx)
	case SpeakerRestarted, SpeakerKilled:
		return nil
	case SpeakerFrozen, SpeakerSlow, SpeakerStopped:
		return d.calm(f)
	}
	n, err := d.lab.NodeNamed(f.Nodes[0])
	if err != nil {
		return err
	}
	switch f.Kind {
	case CableCut:
		return n.Restore(ctx, d.interfaces(n, f)...)
	case GossipRejected:
		return n.AcceptGossip(ctx)
	case PowerLost:
		return n.PowerOn(ctx)
	case Renumbered:
		return n.Renumber(ctx, n.IPv4)
	}
	return n.ResetMask(ctx, f.Value)
}

// interfaces are those of a node that the fault is about.
func (d driver) interfaces(n *lab.Node, f Fault) []string {
	var out []string
	for _, lan := range f.LANs {
		out = append(out, n.Interfaces(lan)...)
	}
	return out
}

// disturb does something to a node's speaker.
func (d driver) disturb(ctx context.Context, f Fault) error {
	p, err := d.lab.Process("speaker-" + f.Nodes[0])
	if err != nil {
		return err
	}
	switch f.Kind {
	case SpeakerFrozen:
		return p.Pause()
	case SpeakerSlow:
		return p.Throttle(10*time.Millisecond, 90*time.Millisecond)
	case SpeakerKilled:
		return p.Kill()
	case SpeakerStopped:
		return p.Stop(ctx, syscall.SIGTERM)
	}
	return p.Restart(ctx, syscall.SIGTERM)
}

// calm undoes that.
func (d driver) calm(f Fault) error {
	p, err := d.lab.Process("speaker-" + f.Nodes[0])
	if err != nil {
		return err
	}
	switch f.Kind {
	case SpeakerFrozen:
		return p.Resume()
	case SpeakerSlow:
		p.Unthrottle()
		return p.Resume()
	}
	return p.Start()
}

// eachProcess does something to the processes of the nodes. One that does not run just now is none.
func (d driver) eachProcess(f Fault, do func(*lab.Process) error) error {
	for _, n := range f.Nodes {
		for _, kind := range []string{"speaker-", "proxy-"} {
			p, err := d.lab.Process(kind + n)
			if err != nil {
				return err
			}
			if p.Pid() != 0 {
				_ = do(p) // it may have ended meanwhile
			}
		}
	}
	return nil
}

// lanes are what the switch drops; none for faults that are not the switch's.
func (d driver) lanes(f Fault) []lab.Lane {
	var out []lab.Lane
	lans := f.LANs
	if len(lans) == 0 {
		lans = []lab.LAN{lab.FirstLAN, lab.OtherLAN}
	}
	for _, lan := range lans {
		of := d.lab.Cables(lan, f.Nodes...)
		switch f.Kind {
		case SendsNothing:
			out = append(out, lab.Lane{From: of})
		case ReceivesNothing:
			out = append(out, lab.Lane{To: of})
		case NodeFrozen:
			out = append(out, lab.Lane{From: of}, lab.Lane{To: of})
		case Split:
			out = append(out, both(of, d.others(lan, f), "")...)
		case PairParted:
			out = append(out, both(d.lab.Cables(lan, f.Nodes[0]), d.lab.Cables(lan, f.Nodes[1]), "")...)
		case GossipSplit, GossipDropped:
			for _, match := range lab.GossipMatches() {
				out = append(out, both(of, d.others(lan, f), match)...)
			}
		case APILost:
			out = append(out, lab.Lane{From: of, Match: "tcp dport 6443"}, lab.Lane{To: of, Match: "tcp sport 6443"})
		case APILostByAll:
			out = append(out, lab.Lane{Match: "tcp dport 6443"}, lab.Lane{Match: "tcp sport 6443"})
		}
	}
	return out
}

// both are the lanes between two sides, either way.
func both(a, b []string, match string) []lab.Lane {
	return []lab.Lane{{From: a, To: b, Match: match}, {From: b, To: a, Match: match}}
}

// others are the cables of the network that are not of the fault's nodes.
func (d driver) others(lan lab.LAN, f Fault) []string {
	var out []string
	mine := map[string]bool{}
	for _, c := range d.lab.Cables(lan, f.Nodes...) {
		mine[c] = true
	}
	for _, c := range d.lab.Cables(lan) {
		if !mine[c] {
			out = append(out, c)
		}
	}
	return out
}
