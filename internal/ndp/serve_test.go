package ndp

import (
	"errors"
	"io"
	"net/netip"
	"testing"
)

// scriptedConn reads frames from a list, then ends.
type scriptedConn struct {
	in     [][]byte
	out    [][]byte
	broken bool
}

func (c *scriptedConn) Read(b []byte) (int, error) {
	if len(c.in) == 0 {
		return 0, io.EOF
	}
	n := copy(b, c.in[0])
	c.in = c.in[1:]
	return n, nil
}

func (c *scriptedConn) Write(frame []byte) (int, error) {
	if c.broken {
		return 0, errors.New("no room")
	}
	c.out = append(c.out, append([]byte(nil), frame...))
	return len(frame), nil
}

func (c *scriptedConn) Close() error { return nil }

func TestServeAnswersUntilAReadFails(t *testing.T) {
	t.Parallel()
	conn := &scriptedConn{in: [][]byte{
		solicitation(t, foreign).encode(t),
		solicitation(t, vip).encode(t),
		{1, 2, 3},
		reachable(lent).encode(t),
		advertisement(other, vip).encode(t), // nobody wants to know
	}}
	var counters Counters
	if err := Serve(conn, Config{Self: Self{us, nonce}, Answers: answered, Counters: &counters}); !errors.Is(err, io.EOF) {
		t.Fatalf("Serve() = %v, want the read's error", err)
	}
	if len(conn.out) != 2 || counters.Requests.Load() != 2 || counters.Replies.Load() != 2 || counters.Errors.Load() != 0 || counters.Conflicts.Load() != 1 {
		t.Errorf("sent %d replies, counted %d of %d, %d errors, %d conflicts", len(conn.out),
			counters.Replies.Load(), counters.Requests.Load(), counters.Errors.Load(), counters.Conflicts.Load())
	}
}

func TestServeCountsAndOutlivesAFailedWrite(t *testing.T) {
	t.Parallel()
	frame := solicitation(t, vip).encode(t)
	var counters Counters
	conn := &scriptedConn{in: [][]byte{frame, frame}, broken: true}
	if err := Serve(conn, Config{Self: Self{us, nonce}, Answers: answered, Counters: &counters}); !errors.Is(err, io.EOF) {
		t.Fatalf("Serve() = %v, want the read's error", err)
	}
	if counters.Errors.Load() != 2 || counters.Replies.Load() != 0 {
		t.Errorf("counted %d errors and %d replies, want 2 and 0", counters.Errors.Load(), counters.Replies.Load())
	}
}

func TestServeTellsOfConflicts(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		frame   []byte
		watched func() Addresses
		want    []Claim
	}{
		{"an advertisement of what we answer for is told", advertisement(other, vip).encode(t), nil, []Claim{{vip, other, Announced}}},
		{"a probe that we answer is not told, since the other gives up", probe(t, other, vip).encode(t), nil, nil},
		{"a probe that we leave unanswered for another node is told", probe(t, other, lent).encode(t), nil, []Claim{{lent, other, Probed}}},
		{"an advertisement of what we do not answer for yet is told", advertisement(other, foreign).encode(t), one(foreign), []Claim{{foreign, other, Announced}}},
		{"a probe for what we do not answer for yet is told", probe(t, other, foreign).encode(t), one(foreign), []Claim{{foreign, other, Probed}}},
		{"our own probe, sent back, is not told", probe(t, other, foreign, marked(nonce)).encode(t), one(foreign), nil},
		{"what is not watched is not told", advertisement(other, vip).encode(t), one(foreign), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got []Claim
			config := Config{
				Self: Self{us, nonce}, Answers: answered, Watched: tt.watched, Counters: &Counters{},
				Conflict: func(c Claim) { got = append(got, c) },
			}
			_ = Serve(&scriptedConn{in: [][]byte{tt.frame}}, config)
			if len(got) != len(tt.want) || len(got) == 1 && got[0] != tt.want[0] || config.Counters.Conflicts.Load() != uint64(len(tt.want)) {
				t.Errorf("told %v, want %v", got, tt.want)
			}
		})
	}
}

func one(address netip.Addr) func() Addresses {
	return func() Addresses { return Addresses{}.With(Entry{Address: address}) }
}
