package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"
)

// writes counts what serving many Services costs the API server. The API server's own
// metrics say how many requests there were; the versions of each Service, what they changed.
func writes(ctx context.Context, b *bed) (table, error) {
	t := table{
		title:   fmt.Sprintf("writes: what the API server is asked for %d Services, created at once", b.services),
		columns: []string{"mean", "max of one"},
	}
	if err := b.quiet(ctx); err != nil {
		return t, err
	}
	before, err := b.requests(ctx)
	if err != nil {
		return t, err
	}
	if _, err := b.createAll(ctx, writesPrefix, 0, b.services); err != nil {
		return t, err
	}
	if err := b.served(ctx, writesPrefix, b.services); err != nil {
		return t, err
	}
	if err := b.quiet(ctx); err != nil {
		return t, err
	}
	after, err := b.requests(ctx)
	if err != nil {
		return t, err
	}
	present, err := b.seen.present(writesPrefix)
	if err != nil {
		return t, err
	}
	versionFigures(&t, present)
	requestFigures(&t, before, after, b.services)
	return t, b.remove(ctx, writesPrefix)
}

const writesPrefix = "writes-"

// versionFigures says how often Services changed, by what changed.
func versionFigures(t *table, present map[string]record) {
	var allocated, announced, other []int
	for _, r := range present {
		allocated, announced, other = append(allocated, r.allocated), append(announced, r.announced), append(other, r.other)
	}
	line := func(values []int, target int, bound, name string) {
		worst := quantile(values, 1)
		t.aim(bound, worst <= target, name, mean(values), count(worst))
	}
	line(allocated, 1, "1", "versions with a new address, annotation or Allocated")
	line(announced, 1, "<= 1", "versions with a new Announced alone")
	line(other, 0, "0", "versions with neither")
}

func mean(values []int) string {
	sum := 0
	for _, v := range values {
		sum += v
	}
	return perService(float64(sum), len(values))
}

func perService(n float64, services int) string { return fmt.Sprintf("%.3f", n/float64(services)) }

// requestFigures says how many requests the API server counted.
func requestFigures(t *table, before, after requests, services int) {
	written := after.patched - before.patched
	refused := after.refused - before.refused
	t.aim("<= 2", written <= 2*float64(services), "patches of services/status", perService(written, services))
	t.aim("0", refused == 0, "of these refused, as the Service had changed", perService(refused, services))
	t.add("events written", perService(after.events-before.events, services))
	t.note("Allocated is one write, Announced at most one more. Without nodes the latter says why not.")
}

// requests are counts of the API server's metric apiserver_request_total.
type requests struct{ patched, refused, events float64 }

// requests asks the API server.
func (b *bed) requests(ctx context.Context) (requests, error) {
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	text, err := b.client.Discovery().RESTClient().Get().AbsPath("/metrics").SetHeader("Accept", "text/plain").DoRaw(ctx)
	if err != nil {
		return requests{}, fmt.Errorf("get metrics of the API server: %w", err)
	}
	var r requests
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		labels, value, found := strings.Cut(strings.TrimPrefix(lines.Text(), "apiserver_request_total{"), "} ")
		if !found || len(labels) == len(lines.Text()) || !strings.HasPrefix(lines.Text(), "apiserver_request_total{") {
			continue
		}
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return requests{}, fmt.Errorf("read metrics of the API server: %w", err)
		}
		r.add(labels, n)
	}
	if err := lines.Err(); err != nil {
		return requests{}, fmt.Errorf("read metrics of the API server: %w", err)
	}
	return r, nil
}

// add takes one series, by its labels.
func (r *requests) add(labels string, n float64) {
	has := func(all ...string) bool {
		for _, one := range all {
			if !strings.Contains(labels, one) {
				return false
			}
		}
		return true
	}
	if has(`resource="services"`, `subresource="status"`, `verb="PATCH"`) {
		r.patched += n
		if !has(`code="200"`) {
			r.refused += n
		}
	}
	if has(`resource="events"`, `subresource=""`) && (has(`verb="POST"`) || has(`verb="PATCH"`)) {
		r.events += n
	}
}
