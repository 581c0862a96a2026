package api

import (
	"fmt"
	"reflect"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// role returns one of Ballast's ClusterRoles as it is installed.
func role(t *testing.T, name string) *rbacv1.ClusterRole {
	t.Helper()
	var r rbacv1.ClusterRole
	if err := shared.admin.Get(t.Context(), client.ObjectKey{Name: name}, &r); err != nil {
		t.Fatal(err)
	}
	return &r
}

func TestNoRoleThatWritesIsAggregated(t *testing.T) {
	t.Parallel()
	for name, aggregated := range map[string]bool{
		"ballast-view": true, "ballast-claims": false, "ballast-operator": false, "ballast-edit": false, "ballast-admin": false,
		"ballast-metrics-reader": false,
	} {
		for _, into := range []string{"view", "edit", "admin"} {
			if got := role(t, name).Labels["rbac.authorization.k8s.io/aggregate-to-"+into] == "true"; got != aggregated {
				t.Errorf("%s is aggregated into %s: %t, want %t", name, into, got, aggregated)
			}
		}
	}
	for _, alias := range []string{"ballast-edit", "ballast-admin"} {
		if !reflect.DeepEqual(role(t, alias).Rules, role(t, "ballast-operator").Rules) {
			t.Errorf("%s differs from ballast-operator", alias)
		}
	}
}

// bind gives a user a role in a namespace, or in the cluster for "".
func bind(t *testing.T, user, role, ns string) {
	t.Helper()
	subject := []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: user}}
	ref := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role}
	var binding client.Object = &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: user}, Subjects: subject, RoleRef: ref}
	if ns != "" {
		binding = &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: user}, Subjects: subject, RoleRef: ref}
	}
	if err := shared.admin.Create(t.Context(), binding); err != nil {
		t.Fatal(err)
	}
}

func TestWhatPeopleMayDo(t *testing.T) {
	t.Parallel()
	const everywhere, mine, theirs = "", "default", "kube-system"
	bind(t, "claimer", "ballast-claims", mine)
	bind(t, "operator", "ballast-operator", everywhere)
	bind(t, "viewer-of-ballast", "ballast-view", everywhere)
	for _, user := range []struct {
		name    string
		yes, no []access
	}{
		{"claimer", []access{
			{verb: "create", group: ballast, resource: "addressclaims", ns: mine},
			{verb: "delete", group: ballast, resource: "addressclaims", ns: mine},
			{verb: "create", group: ballast, resource: "pathchecks", ns: mine},
		}, []access{
			{verb: "create", group: ballast, resource: "addressclaims", ns: theirs},
			{verb: "patch", group: ballast, resource: "addressclaims", sub: "status", ns: mine},
			{verb: "get", group: ballast, resource: "ipaddresspools"},
			{verb: "patch", resource: "services", sub: "status", ns: mine},
		}},
		{"operator", []access{
			{verb: "create", group: ballast, resource: "bgppeers"},
			{verb: "delete", group: ballast, resource: "ipaddresspools"},
			{verb: "update", group: ballast, resource: "settings"},
			{verb: "patch", resource: "nodes"},
			{verb: "patch", group: ballast, resource: "speakers"},
			{verb: "create", group: ballast, resource: "addressclaims", ns: theirs},
			{verb: "create", group: ballast, resource: "pathchecks", ns: theirs},
		}, []access{
			{verb: "patch", group: ballast, resource: "ipaddresspools", sub: "status"},
			{verb: "patch", group: ballast, resource: "speakers", sub: "status"},
			{verb: "patch", resource: "services", ns: mine},
			{verb: "patch", resource: "services", sub: "status", ns: mine},
			{verb: "get", resource: "secrets", ns: namespace},
			{verb: "delete", resource: "nodes"},
		}},
		{"viewer-of-ballast", []access{
			{verb: "watch", group: ballast, resource: "speakers"}, {verb: "list", group: ballast, resource: "settings"},
		}, []access{
			{verb: "create", group: ballast, resource: "addressclaims", ns: mine}, {verb: "patch", group: ballast, resource: "speakers"},
		}},
	} {
		ask := func(a access, want bool) {
			review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{User: user.name, ResourceAttributes: new(a.attributes())}}
			eventually(t, func() error { // the API server hears of new bindings a moment later
				asked := review.DeepCopy()
				if err := shared.admin.Create(t.Context(), asked); err != nil || asked.Status.Allowed != want {
					return fmt.Errorf("%s may %s: %t, want %t (%v)", user.name, a, asked.Status.Allowed, want, err)
				}
				return nil
			})
		}
		for _, a := range user.yes {
			ask(a, true)
		}
		for _, a := range user.no {
			ask(a, false)
		}
	}
}
