package keep

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/ballast-lb/ballast/internal/election"
	"github.com/ballast-lb/ballast/internal/name"
)

func claims() []election.Claim {
	return []election.Claim{{Unit: netip.MustParseAddr("192.0.2.1"), Owner: "n1", Epoch: 7}}
}

func TestRead(t *testing.T) {
	t.Parallel()
	written := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, test := range []struct {
		name   string
		node   name.NodeName
		after  time.Duration
		damage func(b []byte) []byte
		kept   bool
	}{
		{name: "fresh claims are kept", node: "n1", after: time.Second, kept: true},
		{name: "claims of just ten minutes are kept", node: "n1", after: MaxAge, kept: true},
		{name: "older claims are not", node: "n1", after: MaxAge + time.Nanosecond},
		{name: "claims from the future are not", node: "n1", after: -time.Second},
		{name: "claims of another node are not", node: "n2", after: time.Second},
		{name: "half a file is not", node: "n1", damage: func(b []byte) []byte { return b[:len(b)/2] }},
		{name: "an empty file is not", node: "n1", damage: func([]byte) []byte { return nil }},
		{name: "a file that is too large is not", node: "n1", damage: func([]byte) []byte { return make([]byte, sizeMax+1) }},
		{name: "a file without a format is not", node: "n1", damage: func([]byte) []byte { return []byte("{}") }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := File{Directory: filepath.Join(t.TempDir(), "cluster", "n1"), Node: "n1"}
			if err := f.Write(claims(), written); err != nil {
				t.Fatal(err)
			}
			if test.damage != nil {
				b, err := os.ReadFile(f.path())
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(f.path(), test.damage(b), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			f.Node = test.node
			got, err := f.Read(written.Add(test.after))
			if test.kept != (err == nil) || test.kept && !slices.Equal(got, claims()) {
				t.Errorf("read %v, %v; want kept: %v", got, err, test.kept)
			}
		})
	}
}

func TestFile(t *testing.T) {
	t.Parallel()
	f := File{Directory: filepath.Join(t.TempDir(), "n1"), Node: "n1"}
	if _, err := f.Read(time.Now()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("read without a file: %v", err)
	}
	for range 2 {
		if err := f.Write(claims(), time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	for path, mode := range map[string]fs.FileMode{f.Directory: 0o700, f.path(): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v; want mode %v", path, info, err, mode)
		}
	}
	for range 2 {
		if err := f.Remove(); err != nil {
			t.Error(err)
		}
	}
	if left, err := os.ReadDir(f.Directory); err != nil || len(left) != 0 {
		t.Errorf("after removal there are %v, %v", left, err)
	}
	blocked := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (File{Directory: filepath.Join(blocked, "n1"), Node: "n1"}).Write(claims(), time.Now()); err == nil {
		t.Error("written below what is no directory")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"format":1,"node":"n1","written":"2026-01-02T03:04:05Z","news":{}}`))
	f.Add([]byte(`{"format":1,"node":"n1","written":"2026-01-02T03:04:05Z"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := File{Node: "n1"}.decode(b, time.Date(2026, 1, 2, 3, 4, 6, 0, time.UTC))
		for _, c := range got {
			if err != nil || !c.Unit.IsValid() || c.Owner == "" || c.Epoch == 0 {
				t.Errorf("decoded %v, %v", c, err)
			}
		}
	})
}
