package main

import (
	"context"
	"fmt"
	"syscall"
	"time"
)

// memoryTarget is for the controller with many Services, in bytes; a MB is 10^6.
const memoryTarget = 100_000_000

// memory reads how much the controller, and in a lab with a node the speaker, keeps in
// memory: at rest, freshly started without Services, then with more and more of them, and
// freshly started with all of them.
func memory(ctx context.Context, b *bed) (table, error) {
	t := table{
		title:   "memory: resident (VmRSS), of it not from the program's file (RssAnon), and the highest so far (VmHWM), read at rest",
		columns: []string{"resident", "anonymous", "highest"},
	}
	if b.nodes > 0 {
		t.note("One node: every Service has an endpoint there and is announced in layer 2.")
	} else {
		t.note("Without nodes: no Service has endpoints. `bin/bench speaker` has them.")
	}
	if err := b.fill(ctx, 0); err != nil {
		return t, err
	}
	for i, n := range []int{0, b.services, b.many, b.many} {
		state := fmt.Sprintf("%d Services", n)
		if i == 0 || i == 3 {
			state += ", just started"
			if err := b.restartBallast(ctx); err != nil {
				return t, err
			}
		}
		if err := b.fill(ctx, n); err != nil {
			return t, err
		}
		if err := b.linger(ctx); err != nil {
			return t, err
		}
		if err := b.footprints(&t, state, n == b.many); err != nil {
			return t, err
		}
	}
	return t, nil
}

// linger lets the processes rest for as long as -rest says: Go collects garbage at the
// latest after two minutes, and gives memory back later still.
func (b *bed) linger(ctx context.Context) error {
	if b.rest == 0 {
		return nil
	}
	progress("resting for %s", b.rest)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(b.rest):
		return nil
	}
}

// ballast are the names of Ballast's processes in this lab.
func (b *bed) ballast() []string {
	if b.nodes > 0 {
		return []string{controller, speaker}
	}
	return []string{controller}
}

func (b *bed) restartBallast(ctx context.Context) error {
	for _, name := range b.ballast() {
		p, err := b.lab.Process(name)
		if err != nil {
			return err
		}
		if err := p.Restart(ctx, syscall.SIGTERM); err != nil {
			return fmt.Errorf("restart %s: %w", name, err)
		}
	}
	return b.serves(ctx)
}

// serves waits until Ballast gives a new Service its address.
func (b *bed) serves(ctx context.Context) error {
	const prefix = "serves-"
	if err := b.create(ctx, b.service(prefix+"0")); err != nil {
		return err
	}
	if err := b.served(ctx, prefix, 1); err != nil {
		return err
	}
	return b.remove(ctx, prefix)
}

// footprints adds a line for each of Ballast's processes.
func (b *bed) footprints(t *table, state string, targeted bool) error {
	for _, name := range b.ballast() {
		p, err := b.lab.Process(name)
		if err != nil {
			return err
		}
		f, err := footprintOf(p)
		if err != nil {
			return err
		}
		line := fmt.Sprintf("%s, %s", name, state)
		if name == controller && targeted {
			t.aim("<= "+megabytes(memoryTarget), f.now <= memoryTarget, line, megabytes(f.now), megabytes(f.anonymous), megabytes(f.highest))
		} else {
			t.add(line, megabytes(f.now), megabytes(f.anonymous), megabytes(f.highest))
		}
	}
	return nil
}
