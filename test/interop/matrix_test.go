//go:build e2e

package interop

import (
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// daemon is a kind of BGP router, and how to ask one. Every answer is its own view, in the words of learned.String.
type daemon struct {
	name string
	// version is a command that prints the version.
	version []string
	// start starts one with a neighbor, reload gives it another configuration.
	start, reload func(*router, site)
	// session is the state of the session with the node: "Established", or what the daemon calls it.
	session func(*router, site) string
	// route is what it has of a prefix; empty: nothing.
	route func(r *router, prefix string) string
	// restart is what the node has said of graceful restart.
	restart func(*router, site) string
	// bfd is the state of the BFD session with the node: "up", or what the daemon calls it.
	bfd func(*router, site) string
	// watch begins to look for routes that leave; the result returns what has left so far. nil: it cannot tell.
	watch func(*router) (left func() string)
	// cannot are the features that it does not have.
	cannot map[string]lack
}

// lack is why a daemon does not have a feature, in few words, and what proves it: a test of its own.
type lack struct {
	why   string
	proof func(*testing.T)
}

// feature is one row of the matrix.
type feature struct {
	name string
	test func(*cell)
}

// outcomes are what became of the cells, by daemon and feature.
type outcomes struct {
	mu    sync.Mutex
	words map[[2]string]string
}

func (o *outcomes) set(d *daemon, f feature, words string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.words[[2]string{d.name, f.name}] = words
}

// table is a Markdown table of the outcomes.
func (o *outcomes) table(daemons []*daemon, features []feature) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	rows := [][]string{{"feature"}, {"---"}}
	for _, d := range daemons {
		rows[0], rows[1] = append(rows[0], d.name+" "+versionOf(d)), append(rows[1], "---")
	}
	for _, f := range features {
		row := []string{f.name}
		for _, d := range daemons {
			words, found := o.words[[2]string{d.name, f.name}]
			if !found {
				words = "not run"
			}
			row = append(row, words)
		}
		rows = append(rows, row)
	}
	var b strings.Builder
	for _, row := range rows {
		for i, words := range row {
			width := 0
			for _, other := range rows {
				width = max(width, len(other[i]))
			}
			if words == "---" {
				words = strings.Repeat("-", width)
			}
			fmt.Fprintf(&b, "| %-*s ", width, words)
		}
		b.WriteString("|\n")
	}
	return b.String()
}

// versionOf is the version that a daemon says it has.
func versionOf(d *daemon) string {
	out, _ := exec.Command(d.version[0], d.version[1:]...).CombinedOutput()
	return regexp.MustCompile(`[0-9]+(\.[0-9]+)+`).FindString(string(out))
}

// TestMatrix has each daemon take part in everything that a node can do, looks at that with the daemon's own
// eyes, and prints a table.
func TestMatrix(t *testing.T) {
	began := time.Now()
	all, rows := daemons(), features()
	for _, d := range all {
		for name := range d.cannot {
			if !slices.ContainsFunc(rows, func(f feature) bool { return f.name == name }) {
				t.Errorf("%s lacks %q, which is no feature", d.name, name)
			}
		}
	}
	o := &outcomes{words: map[[2]string]string{}}
	t.Cleanup(func() {
		fmt.Printf("\n%s\nTook %s.\n", o.table(all, rows), time.Since(began).Round(time.Second))
	})
	for _, d := range all {
		for _, f := range rows {
			t.Run(d.name+"/"+f.name, func(t *testing.T) {
				t.Parallel()
				o.run(t, d, f)
			})
		}
	}
}

// run runs one cell.
func (o *outcomes) run(t *testing.T, d *daemon, f feature) {
	o.set(d, f, "FAILED")
	if lack, found := d.cannot[f.name]; found {
		lack.proof(t)
		o.set(d, f, "cannot: "+lack.why)
		return
	}
	c := newCell(t, d)
	f.test(c)
	if !t.Failed() {
		o.set(d, f, strings.Join(append([]string{"ok"}, c.notes...), "; "))
	}
}
