package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"text/tabwriter"

	"sigs.k8s.io/yaml"

	"github.com/ballast-lb/ballast/api/v1alpha1"
)

// How a plan is printed.
const (
	outputTable = "table"
	outputJSON  = "json"
	outputYAML  = "yaml"
)

// print writes a forecast.
func (f forecast) print(w io.Writer, output string) error {
	var text []byte
	var err error
	switch output {
	case outputJSON:
		text, err = json.MarshalIndent(f, "", "  ")
		text = append(text, '\n')
	case outputYAML:
		text, err = yaml.Marshal(f)
	default:
		text = f.table()
	}
	if err == nil {
		_, err = w.Write(text)
	}
	if err != nil {
		return fmt.Errorf("print plan: %w", err)
	}
	return nil
}

// table writes a forecast for people.
func (f forecast) table() []byte {
	var b bytes.Buffer
	if len(f.Holders) > 0 {
		rows := [][]string{{"HOLDER", "NOW", "THEN", "CHANGE", "REASON"}}
		for _, h := range f.Holders {
			rows = append(rows, []string{h.Kind + " " + h.Namespace + "/" + h.Name, list(h.Now.Addresses), list(h.Then.Addresses), string(h.Change), h.reason()})
		}
		columns(&b, rows)
		b.WriteString("\n")
	}
	b.WriteString(f.counts() + "\n")
	if len(f.Pools) == 0 {
		return b.Bytes()
	}
	rows := [][]string{{"POOL", "CHANGE", "FAMILY", "TOTAL", "ASSIGNED", "AVAILABLE", "READY"}}
	for _, p := range f.Pools {
		rows = append(rows, p.rows()...)
	}
	b.WriteString("\n")
	columns(&b, rows)
	var problems []string
	for _, p := range f.Pools {
		problems = append(problems, p.problems()...)
	}
	if len(problems) > 0 {
		b.WriteString("\n" + strings.Join(problems, "\n") + "\n")
	}
	return b.Bytes()
}

// columns writes aligned rows; a bytes.Buffer takes everything.
func columns(b *bytes.Buffer, rows [][]string) {
	w := tabwriter.NewWriter(b, 0, 0, 3, ' ', 0)
	for _, row := range rows {
		_, _ = fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	_ = w.Flush()
}

func list(addresses []netip.Addr) string {
	var said []string
	for _, a := range addresses {
		said = append(said, a.String())
	}
	if len(said) == 0 {
		return "-"
	}
	return strings.Join(said, ",")
}

func (h holderForecast) reason() string {
	switch {
	case h.Then.Reason != "":
		return string(h.Then.Reason) + ": " + h.Message
	case h.Message != "":
		return h.Message
	}
	return "-"
}

// counts is the summary in one line.
func (f forecast) counts() string {
	var said []string
	all := 0
	for _, what := range severity() {
		said = append(said, fmt.Sprintf("%s: %d", what, f.Summary[what]))
		all += f.Summary[what]
	}
	line := strings.Join(said, ", ")
	if hidden := all - len(f.Holders); hidden > 0 {
		line += fmt.Sprintf(" (%d unchanged are not listed: --all)", hidden)
	}
	return line
}

// rows are one for each family of which the pool has something, now or then.
func (p poolForecast) rows() [][]string {
	ready := "-"
	switch {
	case p.Then == nil:
	case len(p.Then.Problems) > 0:
		ready = string(p.Then.Problems[0].Reason)
	default:
		ready = "True"
	}
	v4, v6 := both{}, both{}
	if p.Now != nil {
		v4.now, v6.now = &p.Now.IPv4, &p.Now.IPv6
	}
	if p.Then != nil {
		v4.then, v6.then = &p.Then.IPv4, &p.Then.IPv6
	}
	var rows [][]string
	for _, family := range []struct {
		name string
		both
	}{{"IPv4", v4}, {"IPv6", v6}} {
		if !family.any() {
			continue
		}
		rows = append(rows, []string{
			p.Name, string(p.Change), family.name,
			family.step(func(c *v1alpha1.AddressCounts) string { return c.Total }),
			family.step(func(c *v1alpha1.AddressCounts) string { return c.Assigned }),
			family.step(func(c *v1alpha1.AddressCounts) string { return c.Available }),
			ready,
		})
	}
	if rows == nil {
		rows = [][]string{{p.Name, string(p.Change), "-", "-", "-", "-", ready}}
	}
	return rows
}

// both are the counts of one family; nil: the pool is not there.
type both struct{ now, then *v1alpha1.AddressCounts }

// any says whether the pool has, or had, something of the family.
func (b both) any() bool {
	has := func(c *v1alpha1.AddressCounts) bool { return c != nil && (c.Total != "0" || c.Assigned != "0") }
	return has(b.now) || has(b.then)
}

// step writes a count before and after; once, if it stays.
func (b both) step(count func(*v1alpha1.AddressCounts) string) string {
	now, then := "-", "-"
	if b.now != nil {
		now = count(b.now)
	}
	if b.then != nil {
		then = count(b.then)
	}
	if now == then {
		return now
	}
	return now + " -> " + then
}

// problems are sentences, each with its reason.
func (p poolForecast) problems() []string {
	if p.Then == nil {
		return nil
	}
	var said []string
	for _, one := range p.Then.Problems {
		said = append(said, fmt.Sprintf("IPAddressPool %s: %s: %s", p.Name, one.Reason, one.Message))
	}
	return said
}
