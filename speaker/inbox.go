package main

import (
	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/election"
	"github.com/ballast-lb/ballast/internal/name"
)

const (
	// inboxMax is how many different claims wait for the engine at most: ten times those of the largest cluster
	// that is measured, some 20 MB.
	inboxMax = 100_000
	// digestsMax is how many digests of others wait for an answer at most: who gets none asks another.
	digestsMax = 8
)

// inbox is what other speakers said and the engine has not been told yet. Many say the same: each claim is
// kept once, and of a node's reports the last.
type inbox struct {
	claims  map[election.Claim]bool
	reports map[name.NodeName]announce.Report
	// plain was said unasked, answers are answers to digests of this node's.
	plain, answers []election.Claim
	answered       bool
	digests        []announce.Digest
}

// add takes news; it says whether there was room.
func (x *inbox) add(news announce.News) bool {
	if x.claims == nil {
		x.claims, x.reports = map[election.Claim]bool{}, map[name.NodeName]announce.Report{}
	}
	if news.Digest != nil && len(x.digests) < digestsMax {
		x.digests = append(x.digests, *news.Digest)
	}
	into := &x.plain
	if news.Answer {
		into, x.answered = &x.answers, true
	}
	for _, r := range news.Reports {
		if before, known := x.reports[r.Node]; !known || r.Number > before.Number {
			x.reports[r.Node] = r
		}
	}
	for _, c := range news.Claims {
		switch {
		case x.claims[c]:
		case len(x.claims) >= inboxMax:
			return false
		default:
			x.claims[c] = true
			*into = append(*into, c)
		}
	}
	return true
}

// take empties the inbox, and returns what the engine is to be told, and which digests are to be answered.
func (x *inbox) take() (facts []announce.Fact, digests []announce.Digest) {
	plain := announce.News{Claims: x.plain}
	for _, r := range x.reports {
		plain.Reports = append(plain.Reports, r)
	}
	if !plain.Empty() {
		facts = append(facts, announce.Heard{News: plain})
	}
	if x.answered {
		facts = append(facts, announce.Heard{News: announce.News{Answer: true, Claims: x.answers}})
	}
	digests = x.digests
	*x = inbox{}
	return facts, digests
}
