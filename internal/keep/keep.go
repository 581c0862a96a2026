// Package keep stores a speaker's claims in a file of its node, so that owners outlive all speakers:
// when every speaker is started again at once, each still knows who owned what. It decides nothing:
// what it reads counts as what another speaker said.
package keep

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/ballast-lb/ballast/internal/announce"
	"github.com/ballast-lb/ballast/internal/election"
	"github.com/ballast-lb/ballast/internal/name"
)

const (
	// Root is the directory of a host below which speakers keep claims. /run is gone after a boot
	// (hier(7)), as claims must be: a node that was away for so long owns nothing any more.
	Root = "/run/ballast"
	// MaxAge is how old claims may be: older ones say nothing about who owns what now.
	MaxAge = 10 * time.Minute
	// fileName is that of the claims in the directory of a node.
	fileName = "claims.json"
	// format is the version of the file.
	format = 1
	// sizeMax bounds what is read, in bytes: far more than 10,000 claims take.
	sizeMax = 16 << 20
)

// Directory is where the speaker of a node keeps its claims; cluster is the uid of the Namespace
// kube-system.
func Directory(cluster string, node name.NodeName) string {
	return filepath.Join(Root, cluster, string(node))
}

// File is the file that keeps one node's claims. Use it from one goroutine at a time.
type File struct {
	// Directory is the speaker's own; Write makes it.
	Directory string
	// Node is whose claims they are; a file of another node is refused.
	Node name.NodeName
}

type content struct {
	Format  int             `json:"format"`
	Node    name.NodeName   `json:"node"`
	Written time.Time       `json:"written"`
	News    json.RawMessage `json:"news"`
}

// Read returns the claims that were written less than MaxAge before now. If there is no file,
// the error is fs.ErrNotExist; whatever else is wrong with it is an error as well.
func (f File) Read(now time.Time) ([]election.Claim, error) {
	file, err := os.Open(f.path())
	if err != nil {
		return nil, fmt.Errorf("read claims: %w", err)
	}
	defer file.Close() //nolint:errcheck // only read
	b, err := io.ReadAll(io.LimitReader(file, sizeMax+1))
	if err != nil {
		return nil, fmt.Errorf("read claims: %w", err)
	}
	return f.decode(b, now)
}

func (f File) decode(b []byte, now time.Time) ([]election.Claim, error) {
	if len(b) > sizeMax {
		return nil, errors.New("read claims: the file is too large")
	}
	var c content
	if err := json.Unmarshal(b, &c); err != nil {
		return nil, fmt.Errorf("read claims: %w", err)
	}
	age := now.Sub(c.Written)
	switch {
	case c.Format != format:
		return nil, fmt.Errorf("read claims: format %d is not known", c.Format)
	case c.Node != f.Node:
		return nil, fmt.Errorf("read claims: they are of node %q", c.Node)
	case age < 0:
		return nil, errors.New("read claims: they are from the future: the clock was set back")
	case age > MaxAge:
		return nil, fmt.Errorf("read claims: they are older than %s", MaxAge)
	}
	news, err := announce.DecodeNews(c.News)
	if err != nil {
		return nil, fmt.Errorf("read claims: %w", err)
	}
	return news.Claims, nil
}

// Write replaces the file, so that a reader sees the old claims or the new ones. Only the user of
// this process can read it.
func (f File) Write(claims []election.Claim, now time.Time) error {
	b, err := json.Marshal(content{Format: format, Node: f.Node, Written: now, News: announce.News{Claims: claims}.Encode()})
	if err != nil {
		return fmt.Errorf("write claims: %w", err)
	}
	if err := os.MkdirAll(f.Directory, 0o700); err != nil {
		return fmt.Errorf("write claims: %w", err)
	}
	temporary := f.path() + ".new"
	if err := os.WriteFile(temporary, b, 0o600); err != nil {
		return fmt.Errorf("write claims: %w", err)
	}
	if err := os.Rename(temporary, f.path()); err != nil {
		return fmt.Errorf("write claims: %w", err)
	}
	return nil
}

// Remove removes the file, so that a later start brings no claim back. Without a file it does nothing.
func (f File) Remove() error {
	if err := os.Remove(f.path()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove claims: %w", err)
	}
	return nil
}

func (f File) path() string { return filepath.Join(f.Directory, fileName) }
