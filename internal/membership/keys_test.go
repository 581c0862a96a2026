package membership

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
)

func key(fill byte) Key {
	var k Key
	for i := range k {
		k[i] = fill
	}
	return k
}

func encoded(k Key) string { return base64.StdEncoding.EncodeToString(k[:]) }

func TestParseKeys(t *testing.T) {
	t.Parallel()
	a, b := key(1), key(2)
	tests := []struct {
		name    string
		value   string
		want    Keys
		problem string
	}{
		{"one key without a line end", encoded(a), Keys{a}, ""},
		{"the order is kept", encoded(b) + "\n" + encoded(a) + "\n", Keys{b, a}, ""},
		{"blank lines, blanks and carriage returns do not count", "\n  " + encoded(a) + "\t\r\n\r\n\n" + encoded(b) + "\n\n", Keys{a, b}, ""},
		{"a key that comes again is left out", encoded(a) + "\n" + encoded(b) + "\n" + encoded(a), Keys{a, b}, ""},
		{"an empty value has no key", "", nil, "there is no key"},
		{"blank lines hold no key", " \n\n", nil, "there is no key"},
		{"a short key is named by its line", encoded(a) + "\nAAAA\n", nil, "line 2 holds 3 bytes, a key has 32"},
		{"a long key is refused", base64.StdEncoding.EncodeToString(make([]byte, 33)), nil, "line 1 holds 33 bytes, a key has 32"},
		{"what is not base64 is refused and not shown", "sesame", nil, "line 1 is not standard base64"},
		{"two keys on a line are refused", encoded(a) + " " + encoded(b), nil, "line 1 is not standard base64"},
		{"URL-safe base64 is refused", strings.ReplaceAll(encoded(key(0xff)), "/", "_"), nil, "line 1 is not standard base64"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := ParseKeys([]byte(tt.value))
			if !slices.Equal(got, tt.want) {
				t.Errorf("ParseKeys() returned %d keys, want %d", len(got), len(tt.want))
			}
			if (err == nil) != (tt.problem == "") || err != nil && !strings.Contains(err.Error(), tt.problem) {
				t.Errorf("ParseKeys() = %v, want %q", err, tt.problem)
			}
			if err != nil && strings.Contains(err.Error(), "sesame") {
				t.Error("the error shows what stands in the Secret")
			}
		})
	}
}

func TestNewKeyReadsItsSourceAndFailsWithIt(t *testing.T) {
	t.Parallel()
	a, err := NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if a == b || a == (Key{}) {
		t.Error("keys repeat")
	}
	if _, err := NewKey(io.LimitReader(rand.Reader, KeySize-1)); err == nil {
		t.Error("a source that ends makes a key")
	}
}

func TestKeysDoNotShowThemselves(t *testing.T) {
	t.Parallel()
	k := key('x')
	if s := fmt.Sprintf("%v %s %v", k, k, Keys{k}); strings.Contains(s, "x") || strings.Contains(s, "120") {
		t.Errorf("printed %s", s)
	}
}

func FuzzParseKeys(f *testing.F) {
	f.Add([]byte(encoded(key(1)) + "\n" + encoded(key(2))))
	f.Add([]byte("\n \r\n"))
	f.Add([]byte(encoded(key(3)) + "=\n"))
	f.Fuzz(func(t *testing.T, value []byte) {
		keys, err := ParseKeys(value)
		if err != nil {
			if len(keys) > 0 {
				t.Fatal("keys beside an error")
			}
			return
		}
		if len(keys) == 0 {
			t.Fatal("neither keys nor an error")
		}
		written := keys.Format()
		again, err := ParseKeys(written)
		if err != nil || !slices.Equal(again, keys) {
			t.Fatalf("what Format writes does not read the same: %v", err)
		}
		if !bytes.Equal(again.Format(), written) {
			t.Fatal("Format is not stable")
		}
	})
}
