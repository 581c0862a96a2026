package main

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/membership"
)

// relayTo is how many others are told at random what was news to this node. With each passing it on to three,
// one in twenty who do not hear its maker misses it, and finds it by a digest about a second later.
const relayTo = 3

// relay passes on what others told, and compares what this node knows with what others do.
type relay struct {
	wake chan struct{} // says that there is something to pass on

	mu      sync.Mutex // guards what follows
	waiting *announce.Relay
}

func newRelay(self identity) *relay {
	return &relay{wake: make(chan struct{}, 1), waiting: announce.NewRelay(self.node)}
}

// learned takes what was news to this node. It does not block.
func (r *relay) learned(news announce.News) {
	r.mu.Lock()
	r.waiting.Add(news, time.Now())
	r.mu.Unlock()
	poke(r.wake)
}

// counts returns what was counted so far.
func (r *relay) counts() announce.RelayCounts {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.waiting.Counts()
}

// due returns what is to be passed on now, and when more is; zero: not before something is learned.
func (r *relay) due() ([]announce.News, time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.waiting.Take(time.Now()), r.waiting.Due()
}

// run passes on until ctx ends.
func (r *relay) run(ctx context.Context, send func(membership.Letter)) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		case <-timer.C:
		}
		all, next := r.due()
		for _, news := range all {
			send(membership.Letter{News: news.Encode(), Some: relayTo, Not: news.Makers()})
		}
		timer.Stop()
		if !next.IsZero() {
			timer.Reset(max(time.Until(next), 0))
		}
	}
}

// compare has another speaker, at random, tell this one again and again what it lacks, until ctx ends.
func (g *gossip) compare(ctx context.Context, members *membership.Membership) {
	for {
		after := time.Second
		if g.notJoined() == "" {
			var digest announce.Digest
			if err := g.query(ctx, func(s *announce.State) { digest, after = s.Compare() }); err == nil {
				members.Send(membership.Letter{News: announce.News{Digest: &digest}.Encode(), Some: 1})
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(after*3/4 + rand.N(after/2)):
		}
	}
}

// answer tells others what they lack, by the digests that they sent.
func (g *gossip) answer(ctx context.Context, members *membership.Membership, digests []announce.Digest) {
	for _, d := range digests {
		var news announce.News
		if err := g.query(ctx, func(s *announce.State) { news = s.Beyond(d) }); err == nil && !news.Empty() {
			members.Send(membership.Letter{News: news.Encode(), To: d.Node})
		}
	}
}
