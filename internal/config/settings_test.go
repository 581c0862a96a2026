package config_test

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ballast-lb/ballast/api/v1alpha1"
	"github.com/ballast-lb/ballast/internal/config"
)

// defaults are those that docs/settings.md promises.
func defaults() config.Settings {
	return config.Settings{
		GracePeriod: 30 * time.Second, RefreshInterval: time.Minute, ConflictDetection: v1alpha1.ConflictDetectionFast,
		HeartbeatInterval: 100 * time.Millisecond, Missed: 3, ProxyMode: v1alpha1.ServiceProxyAuto,
		ClaimsPerNamespace: 5,
		Drain:              config.Drain{GracefulShutdownTime: 5 * time.Second, WithdrawTime: 5 * time.Second},
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	of := func(d time.Duration) *metav1.Duration { return &metav1.Duration{Duration: d} }
	missed := int32(5)
	for _, tc := range []struct {
		name   string
		spec   *v1alpha1.SettingsSpec // nil: there is no object
		want   func(*config.Settings)
		reason v1alpha1.Reason
		says   string
	}{
		{name: "without an object the defaults hold"},
		{name: "an empty object means the defaults", spec: &v1alpha1.SettingsSpec{}},
		{name: "empty parts mean the defaults", spec: &v1alpha1.SettingsSpec{
			Layer2: &v1alpha1.Layer2Settings{}, Membership: &v1alpha1.MembershipSettings{}, ServiceProxy: &v1alpha1.ServiceProxySettings{}, Drain: &v1alpha1.DrainSettings{},
		}},
		{name: "layer 2", spec: &v1alpha1.SettingsSpec{Layer2: &v1alpha1.Layer2Settings{
			GracePeriod: of(0), RefreshInterval: of(0), ConflictDetection: v1alpha1.ConflictDetectionFull,
		}}, want: func(s *config.Settings) {
			s.GracePeriod, s.RefreshInterval, s.ConflictDetection = 0, 0, v1alpha1.ConflictDetectionFull
		}},
		{name: "membership", spec: &v1alpha1.SettingsSpec{Membership: &v1alpha1.MembershipSettings{HeartbeatInterval: of(time.Second), Missed: &missed}}, want: func(s *config.Settings) {
			s.HeartbeatInterval, s.Missed = time.Second, 5
		}},
		{name: "one of two leaves the other at its default", spec: &v1alpha1.SettingsSpec{Membership: &v1alpha1.MembershipSettings{Missed: &missed}}, want: func(s *config.Settings) { s.Missed = 5 }},
		{name: "the service proxy", spec: &v1alpha1.SettingsSpec{ServiceProxy: &v1alpha1.ServiceProxySettings{Mode: v1alpha1.ServiceProxyRequired, HealthURL: "http://127.0.0.1:9879/healthz"}}, want: func(s *config.Settings) {
			s.ProxyMode, s.ProxyHealthURL = v1alpha1.ServiceProxyRequired, "http://127.0.0.1:9879/healthz"
		}},
		{name: "cordons may count", spec: &v1alpha1.SettingsSpec{Drain: &v1alpha1.DrainSettings{OnCordon: true}}, want: func(s *config.Settings) { s.Drain.OnCordon = true }},
		{name: "excluded nodes may announce", spec: &v1alpha1.SettingsSpec{IgnoreExcludeLabel: true}, want: func(s *config.Settings) { s.IgnoreExcludeLabel = true }},
		{name: "times of BGP", spec: &v1alpha1.SettingsSpec{Drain: &v1alpha1.DrainSettings{GracefulShutdownTime: of(0), WithdrawTime: of(time.Minute)}}, want: func(s *config.Settings) {
			s.Drain.GracefulShutdownTime, s.Drain.WithdrawTime = 0, time.Minute
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var o config.Objects
			if tc.spec != nil {
				o.Settings = &v1alpha1.Settings{ObjectMeta: meta(v1alpha1.SettingsName, 1), Spec: *tc.spec}
			}
			want := defaults()
			if tc.want != nil {
				tc.want(&want)
			}
			c := config.Compile(o)
			if c.Settings != want {
				t.Errorf("got %+v, want %+v", c.Settings, want)
			}
			expect(t, c.Problems, tc.reason, tc.says)
		})
	}
}
