package arp

import (
	"errors"
	"io"
	"net/netip"
	"slices"
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
	frames := [][]byte{
		encode(t, asker, all, request(asker, host, foreign)),
		encode(t, asker, all, request(asker, host, vip)),
		{1, 2, 3},
		encode(t, asker, us, request(asker, host, vip2)),
	}
	var counters Counters
	conn := &scriptedConn{in: frames}
	if err := Serve(conn, Config{MAC: us, Answers: answered, Counters: &counters}); !errors.Is(err, io.EOF) {
		t.Fatalf("Serve() = %v, want the read's error", err)
	}
	if len(conn.out) != 2 || counters.Requests.Load() != 2 || counters.Replies.Load() != 2 || counters.Errors.Load() != 0 {
		t.Errorf("sent %d replies, counted %d of %d", len(conn.out), counters.Replies.Load(), counters.Requests.Load())
	}
}

func TestServeCountsAndOutlivesAFailedWrite(t *testing.T) {
	t.Parallel()
	frame := encode(t, asker, all, request(asker, host, vip))
	var counters Counters
	conn := &scriptedConn{in: [][]byte{frame, frame}, broken: true}
	if err := Serve(conn, Config{MAC: us, Answers: answered, Counters: &counters}); !errors.Is(err, io.EOF) {
		t.Fatalf("Serve() = %v, want the read's error", err)
	}
	if counters.Errors.Load() != 2 || counters.Replies.Load() != 0 {
		t.Errorf("counted %d errors and %d replies, want 2 and 0", counters.Errors.Load(), counters.Replies.Load())
	}
}

func TestServeTellsOfConflictsButNotOfProbesThatAreAnswered(t *testing.T) {
	t.Parallel()
	probed := foreign
	frames := [][]byte{
		frameBytes(AnnounceRequest(vip, other)),
		encode(t, other, all, request(other, vip2, vip)), // answered, and a conflict for its sender
		frameBytes(Probe(vip, other)),                    // answered
		frameBytes(Probe(probed, other)),
		frameBytes(AnnounceReply(lent, owner)),
		frameBytes(AnnounceReply(vip, us)),
	}
	var told []netip.Addr
	var counters Counters
	conn := &scriptedConn{in: frames}
	_ = Serve(conn, Config{
		MAC: us, Answers: answered, Counters: &counters,
		Watched: func() Addresses { return answered().With(Entry{Address: probed}) },
		Conflict: func(c Claim) {
			if c.MAC != other || (c.Use == Probed) != (c.Address == probed) {
				t.Errorf("told %+v", c)
			}
			told = append(told, c.Address)
		},
	})
	if want := []netip.Addr{vip, vip2, probed}; !slices.Equal(told, want) || counters.Conflicts.Load() != 3 || len(conn.out) != 2 {
		t.Errorf("told of %v, want %v; counted %d, answered %d", told, want, counters.Conflicts.Load(), len(conn.out))
	}
}
