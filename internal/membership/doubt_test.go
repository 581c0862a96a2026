package membership

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/ballast-lb/ballast/internal/name"
)

// Where the network splits, a node may be on the other side together with all that watch it.
func TestADeathCastsDoubtOnThoseThatWereNotHeardLately(t *testing.T) {
	t.Parallel()
	w, now := newWatch("self"), time.Unix(1_000_000, 0)
	w.looked = now
	died := w.peer("died", now)
	died.health, died.reached, died.asked, died.heard, died.gossiped = Alive, true, now, now, true
	for i := range 2 * doubts {
		p := w.peer(name.NodeName(fmt.Sprintf("unheard-%d", i)), now)
		p.health, p.reached, p.asked, p.heard, p.gossiped = Alive, true, now, now.Add(-5*time.Second), true
	}
	heard := w.peer("heard", now)
	heard.health, heard.reached, heard.asked, heard.heard, heard.gossiped = Alive, true, now, now, true
	if do := w.look(now); len(do.ask) > 0 {
		t.Fatalf("asks for %v though nobody died", do.ask)
	}
	died.heard, died.suspected = now.Add(-time.Second), true
	w.answered("died", Answer{Asked: true, Others: true}, now)
	if died.health != Dead {
		t.Fatalf("it is %v", died.health)
	}
	do := w.look(now)
	if want := doubtsOfAll / (len(w.peers) + 1); len(do.ask) != want || slices.Contains(do.ask, "heard") {
		t.Errorf("asks for %v", do.ask)
	}
	doubted := do.ask[0]
	for range 6 { // it is looked every 25 ms while the LAN is asked
		now = now.Add(25 * time.Millisecond)
		w.look(now)
	}
	w.answered(doubted, Answer{Asked: true, Others: true}, now)
	if got := w.peers[doubted].health; got != Dead {
		t.Errorf("one that does not answer is %v", got)
	}
	now = now.Add(25 * time.Millisecond)
	if again := w.look(now); len(again.ask) == 0 {
		t.Error("its death casts doubt on nobody else")
	}
}
