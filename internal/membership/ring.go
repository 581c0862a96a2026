package membership

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/memberlist"
)

// fingerprintLen is the length of what tells keys apart without showing them.
const fingerprintLen = 8

func fingerprint(k Key) []byte {
	sum := sha256.Sum256(append([]byte("ballast key "), k[:]...))
	return sum[:fingerprintLen]
}

// ringKeys returns the keys of a ring, the one that encrypts first.
func ringKeys(ring *memberlist.Keyring) []Key {
	var keys []Key
	for _, k := range ring.GetKeys() {
		keys = append(keys, Key(k))
	}
	return keys
}

// rotate is what a node knows of a change of keys.
type rotate struct {
	// wanted are the keys as last set, ring those in use, the one that encrypts first.
	wanted, ring Keys
	// have says that all members have the first of the wanted keys, use that all encrypt with it.
	have, use bool
}

// next returns the ring to go on with. New keys are added at once, so that this node
// understands those that use them; the first is used once all members have it; and old
// keys are removed once all use it. Members that never hear of new keys thus hold a change up,
// and nobody is ever cut off by one.
func (r rotate) next() Keys {
	ring := slices.Clone(r.ring)
	if len(ring) == 0 {
		return slices.Clone(r.wanted)
	}
	for _, k := range r.wanted {
		if !slices.Contains(ring, k) {
			ring = append(ring, k)
		}
	}
	first := r.wanted[0]
	if r.have && ring[0] != first {
		ring = append(Keys{first}, slices.DeleteFunc(ring, func(k Key) bool { return k == first })...)
	}
	if r.have && r.use && ring[0] == first {
		ring = slices.DeleteFunc(ring, func(k Key) bool { return !slices.Contains(r.wanted, k) })
	}
	return ring
}

// SetKeys tells the keys to use from now on, in order. The change is made step by step, as the
// other members get the keys too. It fails, and changes nothing, if there is no key.
func (m *Membership) SetKeys(keys Keys) error {
	if len(keys) == 0 {
		return errors.New("set keys: there is no key")
	}
	m.mu.Lock()
	m.keys = slices.Clone(keys)
	m.mu.Unlock()
	wake(m.changed)
	return m.turn(rotate{wanted: keys, ring: ringKeys(m.ring)}.next())
}

// turn makes keys those of the ring, the first the one that encrypts.
func (m *Membership) turn(keys Keys) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range keys {
		if err := m.ring.AddKey(k[:]); err != nil {
			return fmt.Errorf("set keys: %w", err)
		}
	}
	if err := m.ring.UseKey(keys[0][:]); err != nil {
		return fmt.Errorf("set keys: %w", err)
	}
	for _, old := range slices.Clone(m.ring.GetKeys()) {
		if slices.Contains(keys, Key(old)) {
			continue
		}
		if err := m.ring.RemoveKey(old); err != nil {
			return fmt.Errorf("set keys: %w", err)
		}
	}
	return nil
}

// ringMeta is what this node tells of its keys: the fingerprints of the first that it wants to
// use, and of the one that it uses.
func (m *Membership) ringMeta() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Concat(fingerprint(m.keys[0]), fingerprint(Key(m.ring.GetPrimaryKey())))
}

// turnRing makes the next step of a change of keys, if all members are ready for it.
func (r *run) turnRing(now time.Time) {
	if now.Sub(r.rung) < ringEvery {
		return
	}
	r.rung = now
	r.mu.Lock()
	step := rotate{wanted: r.keys, ring: ringKeys(r.ring), have: true, use: true}
	r.mu.Unlock()
	want := fingerprint(step.wanted[0])
	for _, n := range r.list.Members() {
		if n.Name == string(r.config.NodeName) {
			continue
		}
		if len(n.Meta) != 2*fingerprintLen { // it does not say
			step.have, step.use = false, false
			break
		}
		step.have = step.have && bytes.Equal(n.Meta[:fingerprintLen], want)
		step.use = step.use && bytes.Equal(n.Meta[fingerprintLen:], want)
	}
	next := step.next()
	changed := !slices.Equal(next, step.ring)
	if changed {
		if err := r.turn(next); err != nil {
			r.config.Log.Error(err, "cannot change the keys of the gossip")
			return
		}
		r.config.Log.Info("changed the keys of the gossip", "keys", len(next), "newest", next[0] == step.wanted[0])
	}
	if meta := r.ringMeta(); !bytes.Equal(meta, r.list.LocalNode().Meta) {
		r.task(func(context.Context) func(time.Time) {
			err := r.list.UpdateNode(leaveTimeout)
			return func(time.Time) {
				if err != nil {
					r.config.Log.V(1).Info("told some members late which keys there are", "error", err.Error())
				}
			}
		})
	}
}
