package membership

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
)

const (
	// SecretName is the Secret, in Ballast's namespace, that holds the keys.
	SecretName = "ballast-gossip"
	// SecretKey is the key in that Secret whose value ParseKeys reads.
	SecretKey = "keys"
	// KeySize is the length of a Key in bytes: AES-256.
	KeySize = 32
)

// Key encrypts the traffic between members. It does not show itself when printed with %v or
// %s.
type Key [KeySize]byte

// String hides the key.
func (Key) String() string { return "[hidden]" }

// Keys are the keys of a key ring, in order: the first encrypts, any of them decrypts.
type Keys []Key

// NewKey reads a key from random, which should be crypto/rand.Reader.
func NewKey(random io.Reader) (Key, error) {
	var k Key
	if _, err := io.ReadFull(random, k[:]); err != nil {
		return Key{}, fmt.Errorf("read random bytes: %w", err)
	}
	return k, nil
}

// ParseKeys reads what Format writes: a key a line, in standard base64. Blank lines and blanks
// around a key do not count, and a key that comes again is left out. The error names the
// first line that is wrong, without what stands in it; a value without any key is an error.
func ParseKeys(value []byte) (Keys, error) {
	var keys Keys
	for i, line := range bytes.Split(value, []byte("\n")) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		decoded := make([]byte, base64.StdEncoding.DecodedLen(len(line)))
		n, err := base64.StdEncoding.Decode(decoded, line)
		if err != nil {
			return nil, fmt.Errorf("parse keys: line %d is not standard base64", i+1)
		}
		if n != KeySize {
			return nil, fmt.Errorf("parse keys: line %d holds %d bytes, a key has %d", i+1, n, KeySize)
		}
		if key := Key(decoded[:n]); !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("parse keys: there is no key")
	}
	return keys, nil
}

// Format writes keys for ParseKeys, each line ended.
func (k Keys) Format() []byte {
	var b []byte
	for _, key := range k {
		b = base64.StdEncoding.AppendEncode(b, key[:])
		b = append(b, '\n')
	}
	return b
}
