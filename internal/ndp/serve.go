package ndp

import (
	"fmt"
	"sync/atomic"
)

// bufferLen is the length in bytes of the longest frame that Serve reads whole. Longer ones,
// which an option of a secure host might make, are ignored.
const bufferLen = 2048

// Conn carries whole Ethernet frames of one interface. Close makes a Read or Write that
// waits return. Read and Write may be called at the same time from different goroutines.
type Conn interface {
	// Read stores one frame in b and returns its length.
	Read(b []byte) (int, error)
	// Write sends one frame.
	Write(frame []byte) (int, error)
	Close() error
}

// Counters count what Serve did. They only grow and may be read at any time.
type Counters struct {
	// Requests counts solicitations and probes for an address in the set that are to be
	// answered; Replies the answers sent.
	Requests, Replies atomic.Uint64
	// Errors counts answers that could not be sent.
	Errors atomic.Uint64
	// Conflicts counts the calls of Config.Conflict, or what would have been one.
	Conflicts atomic.Uint64
}

// Config is what Serve needs to know. All functions are called from the goroutine of Serve,
// once a frame, and must not wait for anything.
type Config struct {
	// Self is the interface's MAC and the nonce of the probes sent on it.
	Self Self
	// Answers returns the addresses to answer for.
	Answers func() Addresses
	// Watched returns the addresses whose use by another host is reported, also those that
	// are not answered for, or not yet. Nil means those of Answers.
	Watched func() Addresses
	// Conflict is told who else uses an address, each time that shows. The probe of another host
	// is told only if it was not answered, since that host gives up otherwise. Nil means that
	// nobody wants to know.
	Conflict func(Claim)
	// Counters is written to; it must not be nil.
	Counters *Counters
}

// Serve answers what arrives at conn, and tells about conflicts, as config says. It returns
// when a read fails, which closing conn brings about; a failed write is counted, since the
// asker asks again. It does not close conn.
func Serve(conn Conn, config Config) error {
	if config.Watched == nil {
		config.Watched = config.Answers
	}
	buffer := make([]byte, bufferLen)
	for {
		n, err := conn.Read(buffer)
		if err != nil {
			return fmt.Errorf("read frame: %w", err)
		}
		config.handle(conn, buffer[:n])
	}
}

func (c *Config) handle(conn Conn, frame []byte) {
	reply, answered := Reply(frame, c.Answers(), c.Self.MAC)
	if answered {
		c.Counters.Requests.Add(1)
		if _, err := conn.Write(reply[:]); err != nil {
			c.Counters.Errors.Add(1)
		} else {
			c.Counters.Replies.Add(1)
		}
		return
	}
	claim, seen := Seen(frame, c.Watched(), c.Self)
	if !seen {
		return
	}
	c.Counters.Conflicts.Add(1)
	if c.Conflict != nil {
		c.Conflict(claim)
	}
}
