package main

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/election"
	"github.com/ballast-lb/ballast/internal/keep"
)

const (
	// keepEvery is how often the claims are compared with those in the file, keepAnew how often the
	// file is written though they are the same: its age counts.
	keepEvery, keepAnew = time.Second, time.Minute
	// keepTimeout bounds the question what the claims are.
	keepTimeout = time.Second
)

// keeping keeps the claims that this speaker knows, for the one that is started after it. A file
// that cannot be written costs nothing but that. Its methods are safe for concurrent use.
type keeping struct {
	// query looks at the state of the engine, which may not have begun yet.
	query func(context.Context, func(*announce.State)) error
	log   logr.Logger

	mu      sync.Mutex // guards what follows
	file    keep.File
	kept    []election.Claim // what the file holds
	written time.Time        // when this process wrote it; zero: never
	failing bool             // it could not be written
	over    bool             // it is removed for good
}

// recall returns the fact of what an earlier run kept, none if that does not count.
func (k *keeping) recall(now time.Time) []announce.Fact {
	k.mu.Lock()
	defer k.mu.Unlock()
	claims, err := k.file.Read(now)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		k.log.Info("the claims that were kept do not count", "error", err.Error())
		return nil
	}
	k.log.Info("recalled who owned what", "claims", len(claims))
	return []announce.Fact{announce.Heard{News: announce.News{Claims: claims}}}
}

// run keeps the claims until ctx ends.
func (k *keeping) run(ctx context.Context) error {
	look := time.NewTicker(keepEvery)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
			k.store(ctx)
		}
	}
}

// store writes the claims if they are others than those in the file, or if it gets old. While the
// engine cannot be asked, the file stays as it is.
func (k *keeping) store(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, keepTimeout)
	defer cancel()
	k.mu.Lock() // also while the engine is asked: what was asked later is written later
	defer k.mu.Unlock()
	if k.over {
		return
	}
	var claims []election.Claim
	if err := k.query(ctx, func(s *announce.State) { claims = s.News().Claims }); err != nil {
		return
	}
	slices.SortFunc(claims, func(a, b election.Claim) int { return a.Unit.Compare(b.Unit) })
	now := time.Now()
	if !k.written.IsZero() && now.Sub(k.written) < keepAnew && slices.Equal(claims, k.kept) {
		return
	}
	err := k.file.Write(claims, now)
	if err == nil {
		k.kept, k.written = claims, now
	}
	switch failing := err != nil; {
	case failing && !k.failing:
		k.log.Error(err, "cannot keep the claims: if all speakers are started again at once, addresses may move")
	case !failing && k.failing:
		k.log.Info("keeps the claims again")
	}
	k.failing = err != nil
}

// forget removes the file; nothing is written after that.
func (k *keeping) forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.over = true
	if err := k.file.Remove(); err != nil {
		k.log.Error(err, "cannot remove the claims that were kept; they do not count once they are old", "age", keep.MaxAge.String())
	}
}
