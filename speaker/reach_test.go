package main

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
)

func TestAnAPIServerThatAnswersIsInReach(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		status int
		fails  bool
	}{
		{"it is well", http.StatusOK, false},
		{"it does not let us ask", http.StatusForbidden, false},
		{"it lacks what it needs", http.StatusInternalServerError, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			asked := ""
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked = r.URL.Path
				w.WriteHeader(tt.status)
			}))
			defer server.Close()
			r := reach{url: server.URL + "/", client: server.Client(), log: logr.Discard()}
			if err := r.ask(t.Context()); (err != nil) != tt.fails || asked != "/livez" {
				t.Errorf("asked for %q: %v", asked, err)
			}
			server.Close()
			if err := r.ask(t.Context()); err == nil {
				t.Error("it is in reach once it is away")
			}
		})
	}
}

func TestWhatANodeKnowsIsOldForAsLongAsTheAPIServerWasAwayAndUntilWatchesAreBack(t *testing.T) {
	t.Parallel()
	began := time.Unix(1e9, 0)
	for _, tt := range []struct {
		name string
		away time.Duration // until the first answer
		// stale is from when to when; back that somebody is told at the end.
		from, to time.Duration
	}{
		{"a short absence", 9 * time.Second, 0, 0},
		{"a longer one", 18 * time.Second, 12 * time.Second, 36 * time.Second},
		{"a very long one", 600 * time.Second, 12 * time.Second, 630 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := absence{answered: began}
			var from, to time.Duration
			backs := 0
			for at := time.Duration(0); at < 1000*time.Second; at += reachEvery {
				a.note(at == 0 || at >= tt.away, began.Add(at))
				if a.back {
					backs++
				}
				switch stale := a.stale(began.Add(at)); {
				case stale && from == 0:
					from = at
				case !stale && from > 0 && to == 0:
					to = at
				}
			}
			if from != tt.from || to != tt.to || backs != 1 {
				t.Errorf("stale from %v to %v, want %v to %v; back %d times", from, to, tt.from, tt.to, backs)
			}
		})
	}
}

// answerer is an API server that answers at some times.
type answerer func() bool

func (a answerer) RoundTrip(*http.Request) (*http.Response, error) {
	if !a() {
		return nil, errors.New("no route to host")
	}
	return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
}

func TestAnAbsenceThatIsNoticedByTheAnswerThatEndsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		changed, back := 0, 0
		r := reach{
			url: "http://api", log: logr.Discard(), changed: func() { changed++ }, back: func() { back++ },
			client: &http.Client{Transport: answerer(func() bool {
				at := time.Since(began)
				return at < time.Second || at > 11*time.Second
			})},
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := r.run(ctx); err != nil {
			t.Fatal(err)
		}
		if changed != 2 || back != 1 {
			t.Errorf("changed %d times, back %d times; want 2 and 1", changed, back)
		}
	})
}
