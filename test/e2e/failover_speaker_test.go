//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/ballast-lb/ballast/test/lab"
)

func terminatedSpeaker(r *rig) { restartedSpeaker(r, "term", syscall.SIGTERM) }

func killedSpeaker(r *rig) { restartedSpeaker(r, "kill", syscall.SIGKILL) }

// restartedSpeaker ends the owner's speaker and starts it again at once.
func restartedSpeaker(r *rig, name string, signal syscall.Signal) {
	a := r.serve(name, 1)[0]
	owner := r.awaitOwners(nil, a)[a]
	speaker := r.process("speaker-" + owner)
	c := r.watch(a)
	r.must(speaker.Restart(r.Context(), signal))
	r.settle()
	c.observe(500)
	c.allFine()
}

// deputyAnswers looks at the LAN while the owner's speaker is away: a client that does not know
// the address resolves it, to the owner, though another node says so.
func deputyAnswers(r *rig) {
	ctx := r.Context()
	a := r.serve("deputy", 1)[0]
	owner := r.awaitOwners(nil, a)[a]
	speaker := r.process("speaker-" + owner)
	c := r.watch(a)
	r.must(speaker.Stop(ctx, syscall.SIGKILL))
	r.eventually("another node says where the address is", func(ctx context.Context) error {
		answers, err := r.lab.Ask(ctx, witnessHost, askWindow, a)
		if err != nil {
			return err
		}
		if len(answers[a]) != 1 {
			return fmt.Errorf("%d answers: %v", len(answers[a]), answers[a])
		}
		if said := answers[a][0]; r.lab.NameOf(said.Owner) != owner || r.lab.NameOf(said.Source) == owner {
			return fmt.Errorf("%s said that it is at %s", r.lab.NameOf(said.Source), r.lab.NameOf(said.Owner))
		}
		return nil
	})
	for range 3 { // as a new client would
		_, err := r.lab.Exec(ctx, "lan", "ip", "neigh", "flush", "to", a.String())
		r.must(err)
		c.observe(50)
	}
	r.must(speaker.Start())
	r.settle()
	r.eventually("the owner speaks for itself again", func(ctx context.Context) error {
		answers, err := r.lab.Ask(ctx, witnessHost, askWindow, a)
		if err != nil {
			return err
		}
		if len(answers[a]) != 1 || r.lab.NameOf(answers[a][0].Source) != owner {
			return fmt.Errorf("answers: %v", answers[a])
		}
		return nil
	})
	for _, s := range c.heard.Seen() {
		if s.Unasked && r.lab.NameOf(s.Source) != owner {
			r.Errorf("a deputy spoke unasked: %+v", s)
		}
	}
	c.allFine()
}

// rollingRestart is what an update of the DaemonSet does.
func rollingRestart(r *rig) {
	addresses := r.serve("rolling", 4)
	c := r.watch(addresses...)
	for _, n := range r.lab.Nodes() {
		r.must(r.process("speaker-"+n.Name).Restart(r.Context(), syscall.SIGTERM))
		c.observe(100)
		r.settle()
	}
	c.observe(500)
	c.allFine()
}

// allKilled ends all speakers before the first of them is started again, so that no process is left that knows who owns
// what. One node owns everything, as no placing of new addresses has it.
func allKilled(r *rig) {
	addresses := r.serve("all", 6)
	r.gather(announcers()[0], addresses...)
	c := r.watch(addresses...)
	c.observe(200) // claims are kept within a second
	var speakers []*lab.Process
	for _, n := range r.lab.Nodes() {
		speakers = append(speakers, r.process("speaker-"+n.Name))
	}
	for _, s := range speakers {
		r.must(s.Stop(r.Context(), syscall.SIGKILL))
	}
	for _, s := range speakers {
		r.must(s.Start())
	}
	r.awaitOwners(nil, addresses...)
	r.settle()
	c.observe(200)
	c.nothingMoved()
}

// throttledSpeakers: speakers that get a tenth of the time are slow, not dead, and see no dead ones: first the
// owner's, then another's.
func throttledSpeakers(r *rig) {
	a := r.serve("throttled", 1)[0]
	owner := r.awaitOwners(nil, a)[a]
	c := r.watch(a)
	for _, node := range []string{owner, announcers(owner)[0]} {
		speaker := r.process("speaker-" + node)
		r.Cleanup(speaker.Unthrottle)
		r.must(speaker.Throttle(100*time.Millisecond, 900*time.Millisecond))
		c.observe(600)
		speaker.Unthrottle()
		r.settle()
	}
	c.observe(200)
	c.allFine()
}

// standingSpeaker stands still until others own what it had, and goes on.
func standingSpeaker(r *rig) {
	r.gracePeriod(shortGrace)
	addresses := r.serve("standing", 6)
	owner, its, other := r.twoOwners(addresses...)
	speaker := r.process("speaker-" + owner)
	r.Cleanup(func() { _ = speaker.Resume() })
	unaffected := r.watch(other)
	r.must(speaker.Pause())
	r.awaitOwners([]string{owner}, its...)
	c := r.watch(its...)
	c.observe(500)
	r.must(speaker.Resume())
	c.observe(1000)
	c.allFine()
	unaffected.allFine()
}

// startedWithoutAPI: it cannot know what there is, and is silent; another node answers for it.
func startedWithoutAPI(r *rig) {
	ctx := r.Context()
	a := r.serve("started", 1)[0]
	owner := r.awaitOwners(nil, a)[a]
	speaker := r.process("speaker-" + owner)
	c := r.watch(a)
	r.stopAPI()
	pid := speaker.Pid()
	r.must(speaker.Kill())
	r.eventually("the speaker has been started again", func(context.Context) error {
		if now := speaker.Pid(); now == pid || now == 0 {
			return fmt.Errorf("its process is %d, and was %d", now, pid)
		}
		return nil
	})
	again := len(c.heard.Seen())
	c.observe(500)
	for _, s := range c.heard.Seen()[again:] {
		if r.lab.NameOf(s.Source) == owner {
			r.Errorf("it speaks without the API server: %+v", s)
		}
	}
	answers, err := r.lab.Ask(ctx, witnessHost, askWindow, a)
	r.must(err)
	if got := answers.Owners(a); len(got) != 1 || r.lab.NameOf(got[0]) != owner {
		r.Errorf("%s is said to be at %v, want %s", a, r.names(got), owner)
	}
	r.must(r.lab.StartAPI(ctx))
	r.settle()
	c.observe(200)
	c.allFine()
}
