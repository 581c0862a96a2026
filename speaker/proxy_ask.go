package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const (
	// proxyTimeout bounds one request to a service proxy.
	proxyTimeout = time.Second
	// proxyBody is how many bytes of an answer are read; kube-proxy's metrics are some 100 kB.
	proxyBody = 8 << 20
	// syncMetric is when kube-proxy last programmed the rules of a family (pkg/proxy/metrics of
	// Kubernetes); 0 or absent before the first time.
	syncMetric = "kubeproxy_sync_proxy_rules_last_timestamp_seconds"
)

// proxyAsker asks a service proxy by HTTP. It is safe for concurrent use.
type proxyAsker struct {
	client *http.Client
	// livez and metrics are kube-proxy's, tried in turn while nobody listens.
	livez, metrics []string
}

func newProxyAsker() *proxyAsker {
	return &proxyAsker{
		client: &http.Client{
			Timeout:       proxyTimeout,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport: &http.Transport{
				DisableKeepAlives: true,                                  // whether somebody listens is part of the question
				TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // as kubelet's probes: it is asked for nothing secret, and told nothing
			},
		},
		livez:   []string{"http://127.0.0.1:10256/livez", "http://[::1]:10256/livez"},
		metrics: []string{"http://127.0.0.1:10249/metrics", "http://[::1]:10249/metrics"},
	}
}

// ask asks once: a URL of the user's or, without one, kube-proxy's /livez. Where that is not
// there, or as in Kubernetes 1.33 does not tell families apart and is fine before the first
// sync, the metrics say more.
func (a *proxyAsker) ask(ctx context.Context, url string, families []corev1.IPFamily) proxyAnswer {
	at := a.livez
	if url != "" {
		at = []string{url}
	}
	p, err := a.get(ctx, at)
	switch {
	case err != nil:
		return p.failed(err)
	case p.status == http.StatusNotFound && url == "":
		return a.askMetrics(ctx, families)
	case p.status != http.StatusOK:
		return p.answers(proxyWaits, "answers with status %d", p.status)
	}
	h := readHealth(p.body)
	if h.dated() && h.Healthy == nil && len(h.Status) == 0 && url == "" {
		return a.askMetrics(ctx, families)
	}
	if why := h.lacks(families); why != "" {
		return p.answers(proxyWaits, "%s", why)
	}
	return p.answers(proxyDelivers, "says that it can deliver")
}

func (a *proxyAsker) askMetrics(ctx context.Context, families []corev1.IPFamily) proxyAnswer {
	p, err := a.get(ctx, a.metrics)
	switch {
	case err != nil:
		return p.failed(err)
	case p.status != http.StatusOK:
		return p.answers(proxyWaits, "answers with status %d", p.status)
	}
	synced := readSynced(p.body)
	for _, f := range families {
		if synced[f].IsZero() && synced[""].IsZero() {
			return p.answers(proxyWaits, "says that it has not programmed %s yet", f)
		}
	}
	if len(synced) == 0 {
		return p.answers(proxyWaits, "does not say that it has programmed anything yet")
	}
	return p.answers(proxyDelivers, "says that it has programmed Services")
}

// page is what was got from a URL.
type page struct {
	url    string
	status int
	body   []byte
}

// answers makes an answer of what a page says.
func (p page) answers(word proxyWord, format string, args ...any) proxyAnswer {
	return proxyAnswer{word, fmt.Sprintf("The service proxy at %s %s", p.url, fmt.Sprintf(format, args...))}
}

// failed makes an answer of why there is no page. The text is the same each time.
func (p page) failed(err error) proxyAnswer {
	var network net.Error
	var number syscall.Errno
	switch {
	case isAbsent(err):
		return proxyAnswer{proxyAbsent, fmt.Sprintf("Nobody listens at %s, where the service proxy should", p.url)}
	case errors.As(err, &network) && network.Timeout():
		return p.answers(proxyWaits, "does not answer within %s", proxyTimeout)
	case errors.As(err, &number): // without the ports of the connection
		return p.answers(proxyWaits, "cannot be asked: %v", number)
	}
	return p.answers(proxyWaits, "cannot be asked: %v", err)
}

// isAbsent says whether nobody listens at an address, or the machine lacks its family.
func isAbsent(err error) bool {
	return slices.ContainsFunc([]syscall.Errno{syscall.ECONNREFUSED, syscall.EADDRNOTAVAIL, syscall.EAFNOSUPPORT, syscall.ENETUNREACH},
		func(number syscall.Errno) bool { return errors.Is(err, number) })
}

// get returns the page of the first URL at which somebody listens; if nobody does, the error
// is of the first.
func (a *proxyAsker) get(ctx context.Context, urls []string) (page, error) {
	first := page{url: urls[0]}
	var none error
	for i, url := range urls {
		p, err := a.getOne(ctx, url)
		if err == nil || !isAbsent(err) {
			return p, err
		}
		if i == 0 {
			none = err
		}
	}
	return first, none
}

func (a *proxyAsker) getOne(ctx context.Context, url string) (page, error) {
	p := page{url: url}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return p, fmt.Errorf("make request: %w", err)
	}
	response, err := a.client.Do(request)
	if err != nil {
		return p, fmt.Errorf("get health: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	p.status = response.StatusCode
	if p.body, err = io.ReadAll(io.LimitReader(response.Body, proxyBody)); err != nil {
		return p, fmt.Errorf("read health: %w", err)
	}
	return p, nil
}

// health is what kube-proxy's /livez says (ProxyHealth in pkg/proxy/healthcheck of
// Kubernetes). What is absent is nil: all of it, if it is not kube-proxy that speaks.
type health struct {
	LastUpdated *string `json:"lastUpdated"`
	CurrentTime *string `json:"currentTime"`
	// Healthy is there if kube-proxy tells families apart; true also before the first sync.
	Healthy *bool `json:"healthy"`
	// Status has the families that were programmed at least once.
	Status map[corev1.IPFamily]familyHealth `json:"status"`
}

type familyHealth struct {
	Healthy bool `json:"healthy"`
}

// readHealth returns the zero value for what kube-proxy does not write.
func readHealth(body []byte) health {
	var h health
	if err := json.Unmarshal(body, &h); err != nil {
		return health{}
	}
	return h
}

// dated says that it is kube-proxy, or something that imitates it, that speaks.
func (h health) dated() bool { return h.LastUpdated != nil && h.CurrentTime != nil }

// lacks says what families in use lack, "" if nothing; without families, each that is listed
// counts.
func (h health) lacks(families []corev1.IPFamily) string {
	if len(h.Status) == 0 {
		if h.dated() && h.Healthy != nil {
			return "has not programmed any Service yet"
		}
		return ""
	}
	if len(families) == 0 {
		families = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
		families = slices.DeleteFunc(families, func(f corev1.IPFamily) bool { _, listed := h.Status[f]; return !listed })
	}
	for _, f := range families {
		switch one, listed := h.Status[f]; {
		case !listed:
			return fmt.Sprintf("has not programmed %s yet", f)
		case !one.Healthy:
			return fmt.Sprintf("says that %s is not healthy", f)
		}
	}
	return ""
}

// lastSync is since when kube-proxy has programmed every family that it ever has; zero: that is not known.
func (a *proxyAsker) lastSync(ctx context.Context) time.Time {
	p, err := a.get(ctx, a.metrics)
	if err != nil || p.status != http.StatusOK {
		return time.Time{}
	}
	var earliest time.Time
	for _, at := range readSynced(p.body) {
		if earliest.IsZero() || at.Before(earliest) {
			earliest = at
		}
	}
	return earliest
}

// readSynced reads from kube-proxy's metrics (Prometheus text format) when each family was programmed last, of those
// that have been; "" stands for all, where they are not told apart.
func readSynced(metrics []byte) map[corev1.IPFamily]time.Time {
	synced := map[corev1.IPFamily]time.Time{}
	for line := range bytes.Lines(metrics) {
		rest, is := strings.CutPrefix(string(line), syncMetric)
		if !is {
			continue
		}
		var labels string
		if strings.HasPrefix(rest, "{") {
			if labels, rest, is = strings.Cut(rest[1:], "}"); !is {
				continue
			}
		}
		fields := strings.Fields(rest)
		if len(fields) == 0 || !strings.HasPrefix(rest, " ") {
			continue
		}
		when, err := strconv.ParseFloat(fields[0], 64)
		if err != nil || !(when > 0 && when < 1e12) { // seconds since 1970
			continue
		}
		family := corev1.IPFamily("")
		if _, value, labeled := strings.Cut(labels, `ip_family="`); labeled {
			value, _, _ = strings.Cut(value, `"`)
			family = corev1.IPFamily(value)
		}
		synced[family] = time.UnixMicro(int64(when * 1e6))
	}
	return synced
}
