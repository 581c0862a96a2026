package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// What kube-proxy writes, from ProxyHealth in pkg/proxy/healthcheck of Kubernetes: 1.37
// before and after the first sync, with a family that hangs, and 1.33, which does not tell
// families apart.
const (
	kubeProxyFresh = `{"lastUpdated":"2026-01-01T12:00:00.123456789Z","currentTime":"2026-01-01T12:00:00.123456789Z","healthy":true}`
	kubeProxyOne   = `{"lastUpdated":"2026-01-01T12:00:00Z","currentTime":"2026-01-01T12:00:00Z","healthy":true,"status":{"IPv4":{"lastUpdated":"2026-01-01T12:00:00Z","healthy":true}}}`
	kubeProxyBoth  = `{"lastUpdated":"2026-01-01T12:00:00Z","currentTime":"2026-01-01T12:00:00Z","healthy":true,"status":{"IPv4":{"lastUpdated":"2026-01-01T12:00:00Z","healthy":true},"IPv6":{"lastUpdated":"2026-01-01T12:00:00Z","healthy":true}}}`
	kubeProxyHangs = `{"lastUpdated":"2026-01-01T12:00:00Z","currentTime":"2026-01-01T12:02:01Z","healthy":false,"status":{"IPv4":{"lastUpdated":"2026-01-01T12:00:00Z","healthy":true},"IPv6":{"lastUpdated":"2026-01-01T12:00:00Z","healthy":false}}}`
	kubeProxy133   = `{"lastUpdated": "2026-01-01 12:00:00.1 +0000 UTC m=+0.1","currentTime": "2026-01-01 12:00:00.1 +0000 UTC m=+0.1"}`

	metricsHead  = "# HELP kubeproxy_sync_proxy_rules_last_timestamp_seconds [ALPHA] The last time proxy rules were successfully synced\n# TYPE kubeproxy_sync_proxy_rules_last_timestamp_seconds gauge\n"
	metricsFresh = metricsHead + "kubeproxy_sync_proxy_rules_last_timestamp_seconds 0\n"
	metricsAll   = metricsHead + "kubeproxy_sync_proxy_rules_last_timestamp_seconds 1.7672688001234567e+09\n"
	metricsOne   = metricsHead + "kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family=\"IPv4\"} 1.7672688001234567e+09\n"
	metricsBoth  = metricsOne + "kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family=\"IPv6\"} 1.7672688001234567e+09\n"
)

// served is what is served at a path; status 0: nobody listens there.
type served struct {
	status int
	body   string
}

// serve returns the URL of a server, or one at which nobody listens.
func serve(t *testing.T, s served) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.status == http.StatusFound {
			http.Redirect(w, r, "http://192.0.2.1/", s.status)
			return
		}
		w.WriteHeader(s.status)
		_, _ = w.Write([]byte(s.body))
	}))
	t.Cleanup(server.Close)
	if s.status == 0 {
		server.Close()
	}
	return server.URL
}

func TestAskingKubeProxy(t *testing.T) {
	t.Parallel()
	v4, both := []corev1.IPFamily{corev1.IPv4Protocol}, []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
	for _, tc := range []struct {
		name           string
		livez, metrics served
		families       []corev1.IPFamily
		want           proxyWord
		says           string
	}{
		{"nobody listens", served{}, served{}, v4, proxyAbsent, "Nobody listens at http://127.0.0.1:"},
		{"before the first sync 200 is not enough", served{200, kubeProxyFresh}, served{200, metricsBoth}, v4, proxyWaits, "has not programmed any Service yet"},
		{"before the first sync 200 is not enough without families either", served{200, kubeProxyFresh}, served{}, nil, proxyWaits, "any Service"},
		{"all families", served{200, kubeProxyBoth}, served{}, both, proxyDelivers, "can deliver"},
		{"the family in use", served{200, kubeProxyOne}, served{}, v4, proxyDelivers, ""},
		{"one of two families in use", served{200, kubeProxyOne}, served{200, metricsBoth}, both, proxyWaits, "has not programmed IPv6 yet"},
		{"whatever it lists, if no family is known to be in use", served{200, kubeProxyOne}, served{}, nil, proxyDelivers, ""},
		{"a family that hangs", served{503, kubeProxyHangs}, served{200, metricsBoth}, v4, proxyWaits, "status 503"},
		{"a family that hangs, under 200", served{200, kubeProxyHangs}, served{}, both, proxyWaits, "IPv6 is not healthy"},
		{"a family that hangs and is not in use, under 200", served{200, kubeProxyHangs}, served{}, v4, proxyDelivers, ""},
		{"another that says only 200", served{200, "ok"}, served{}, both, proxyDelivers, ""},
		{"Kubernetes 1.33 after the first sync", served{200, kubeProxy133}, served{200, metricsAll}, both, proxyDelivers, "has programmed Services"},
		{"Kubernetes 1.33 before the first sync", served{200, kubeProxy133}, served{200, metricsFresh}, both, proxyWaits, "has not programmed IPv4 yet"},
		{"Kubernetes 1.33 without metrics does not say", served{200, kubeProxy133}, served{}, both, proxyAbsent, "Nobody listens"},
		{"without /livez the metrics count", served{404, ""}, served{200, metricsBoth}, both, proxyDelivers, ""},
		{"without /livez metrics of one of two families", served{404, ""}, served{200, metricsOne}, both, proxyWaits, "has not programmed IPv6 yet"},
		{"without /livez metrics of no family", served{404, ""}, served{200, metricsFresh}, nil, proxyWaits, "anything yet"},
		{"without /livez metrics that are not there", served{404, ""}, served{404, ""}, v4, proxyWaits, "status 404"},
		{"without /livez and metrics", served{404, ""}, served{}, v4, proxyAbsent, ""},
		{"it is sent elsewhere", served{302, ""}, served{}, v4, proxyWaits, "status 302"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			a := newProxyAsker()
			a.livez, a.metrics = []string{serve(t, tc.livez)}, []string{serve(t, tc.metrics)}
			got := a.ask(t.Context(), "", tc.families)
			if got.word != tc.want || !strings.Contains(got.said, tc.says) {
				t.Errorf("got %+v, want %v and %q", got, tc.want, tc.says)
			}
		})
	}
}

func TestAskingAtAURLOfTheUser(t *testing.T) {
	t.Parallel()
	v4 := []corev1.IPFamily{corev1.IPv4Protocol}
	for _, tc := range []struct {
		name string
		page served
		want proxyWord
	}{
		{"200 is enough", served{200, `{"status":"ok"}`}, proxyDelivers},
		{"what imitates kube-proxy of 1.33 too", served{200, kubeProxy133}, proxyDelivers},
		{"kube-proxy elsewhere tells its families apart", served{200, kubeProxyOne}, proxyDelivers},
		{"kube-proxy elsewhere, before the first sync", served{200, kubeProxyFresh}, proxyWaits},
		{"404 is not ready", served{404, ""}, proxyWaits},
		{"nobody listens", served{}, proxyAbsent},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			a := newProxyAsker()
			a.livez, a.metrics = []string{serve(t, served{503, ""})}, []string{serve(t, served{200, metricsBoth})}
			if got := a.ask(t.Context(), serve(t, tc.page), v4); got.word != tc.want {
				t.Errorf("got %+v, want %v", got, tc.want)
			}
		})
	}
}

func TestAskingOverTLSNeedsNoKnownCertificate(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(server.Close)
	if got := newProxyAsker().ask(t.Context(), server.URL, nil); got.word != proxyDelivers {
		t.Errorf("got %+v", got)
	}
}

func TestTheSecondAddressIsAskedIfNobodyListensAtTheFirst(t *testing.T) {
	t.Parallel()
	nobody, first, second := serve(t, served{}), serve(t, served{503, ""}), serve(t, served{200, kubeProxyOne})
	a := newProxyAsker()
	for _, tc := range []struct {
		urls []string
		want proxyWord
		says string
	}{
		{[]string{nobody, second}, proxyDelivers, second},
		{[]string{first, second}, proxyWaits, first},
		{[]string{nobody, nobody}, proxyAbsent, nobody},
	} {
		a.livez = tc.urls
		if got := a.ask(t.Context(), "", nil); got.word != tc.want || !strings.Contains(got.said, tc.says) {
			t.Errorf("%v: got %+v, want %v that names %s", tc.urls, got, tc.want, tc.says)
		}
	}
}

func TestAProxyThatIsSlowIsNotReady(t *testing.T) {
	t.Parallel()
	ended := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-ended:
		}
	}))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(ended) })
	if got := newProxyAsker().ask(t.Context(), server.URL, nil); got.word != proxyWaits || !strings.Contains(got.said, "does not answer within 1s") {
		t.Errorf("got %+v", got)
	}
}

func FuzzReadHealth(f *testing.F) {
	for _, s := range []string{kubeProxyFresh, kubeProxyOne, kubeProxyBoth, kubeProxyHangs, kubeProxy133, "ok", "null", `{"status":{"IPv4":null}}`, ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		h := readHealth([]byte(body))
		if len(h.Status) > 0 && h.lacks([]corev1.IPFamily{"IPv5"}) == "" && !h.Status["IPv5"].Healthy {
			t.Fatalf("%q delivers a family that it does not list", body)
		}
	})
}

func FuzzReadSynced(f *testing.F) {
	for _, s := range []string{metricsFresh, metricsAll, metricsOne, metricsBoth, syncMetric + "{", syncMetric + "{} NaN", syncMetric + "_total 1", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		if synced := readSynced([]byte(body)); len(synced) > 0 && !strings.Contains(body, syncMetric) {
			t.Fatalf("%q gave %v", body, synced)
		}
	})
}
