package arp

import (
	"fmt"
	"sync/atomic"
)

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
	// Requests counts requests and probes for an address in the set; Replies the answers sent.
	Requests, Replies atomic.Uint64
	// Errors counts answers that could not be sent.
	Errors atomic.Uint64
}

// Serve answers what arrives at conn, on an interface whose address is mac, for the
// addresses that answers returns; it is called once a frame and must be safe to call from
// this goroutine. Serve returns when a read fails, which closing conn brings about; a failed
// write is counted, since the asker asks again. It does not close conn.
func Serve(conn Conn, mac MAC, answers func() Addresses, counters *Counters) error {
	buffer := make([]byte, 128)
	for {
		n, err := conn.Read(buffer)
		if err != nil {
			return fmt.Errorf("read frame: %w", err)
		}
		reply, ok := Reply(buffer[:n], answers(), mac)
		if !ok {
			continue
		}
		counters.Requests.Add(1)
		if _, err := conn.Write(reply[:]); err != nil {
			counters.Errors.Add(1)
			continue
		}
		counters.Replies.Add(1)
	}
}
