package api

import (
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
)

// may asks the API server whether one of Ballast's service accounts may do something.
func may(t *testing.T, account string, what authorizationv1.ResourceAttributes) bool {
	t.Helper()
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: user(account), Groups: groups(namespace), ResourceAttributes: &what,
	}}
	if err := shared.admin.Create(t.Context(), review); err != nil {
		t.Fatal(err)
	}
	return review.Status.Allowed
}

// access is one line of the tables below; an empty namespace asks about all of them.
type access struct {
	verb, group, resource, sub, ns, name string
}

func (a access) String() string {
	out := a.verb + " " + a.resource
	if a.sub != "" {
		out += "/" + a.sub
	}
	if a.name != "" {
		out += " " + a.name
	}
	if a.ns != "" {
		out += " in " + a.ns
	}
	return out
}

func (a access) attributes() authorizationv1.ResourceAttributes {
	return authorizationv1.ResourceAttributes{
		Verb: a.verb, Group: a.group, Resource: a.resource, Subresource: a.sub, Namespace: a.ns, Name: a.name,
	}
}

const ballast = "ballast.dev"

// watched is what both daemons read.
func watched() []access {
	var out []access
	for _, verb := range []string{"get", "list", "watch"} {
		for _, resource := range []string{"services", "nodes", "namespaces"} {
			out = append(out, access{verb: verb, resource: resource})
		}
		out = append(out, access{verb: verb, group: "discovery.k8s.io", resource: "endpointslices"})
		for _, resource := range []string{"ipaddresspools", "l2advertisements", "bgpadvertisements", "bgppeers", "bfdprofiles", "communities", "settings", "speakers"} {
			out = append(out, access{verb: verb, group: ballast, resource: resource})
		}
		out = append(out, access{verb: verb, resource: "secrets", ns: namespace})
	}
	return append(out,
		access{verb: "patch", resource: "services", sub: "status"},
		access{verb: "create", group: "events.k8s.io", resource: "events"},
		access{verb: "patch", group: "events.k8s.io", resource: "events"},
		access{verb: "create", group: "authentication.k8s.io", resource: "tokenreviews"},
		access{verb: "create", group: "authorization.k8s.io", resource: "subjectaccessreviews"},
	)
}

// forbidden is what neither daemon may do.
func forbidden() []access {
	out := []access{
		{verb: "update", resource: "services", sub: "status"},
		{verb: "get", resource: "secrets"},
		{verb: "list", resource: "secrets", ns: "default"},
		{verb: "get", resource: "secrets", ns: "kube-system"},
		{verb: "delete", resource: "secrets", ns: namespace},
		{verb: "patch", resource: "nodes"},
		{verb: "create", resource: "pods", ns: namespace},
		{verb: "create", group: ballast, resource: "ipaddresspools"},
		{verb: "delete", group: ballast, resource: "ipaddresspools"},
		{verb: "update", group: ballast, resource: "bgppeers"},
		{verb: "delete", group: ballast, resource: "speakers"},
		{verb: "*", group: "*", resource: "*"},
		{verb: "impersonate", resource: "users"},
	}
	for _, verb := range []string{"create", "update", "patch", "delete"} {
		out = append(out, access{verb: verb, resource: "services"})
	}
	return out
}

func TestWhatTheDaemonsMayDo(t *testing.T) {
	t.Parallel()
	controllerOnly := []access{
		{verb: "watch", group: "networking.k8s.io", resource: "servicecidrs"},
		{verb: "patch", group: ballast, resource: "ipaddresspools"},
		{verb: "update", group: ballast, resource: "ipaddresspools", sub: "finalizers"},
		{verb: "create", group: "coordination.k8s.io", resource: "leases", ns: namespace},
		{verb: "update", group: "coordination.k8s.io", resource: "leases", ns: namespace, name: "ballast-controller"},
		{verb: "create", resource: "secrets", ns: namespace},
		{verb: "update", resource: "secrets", ns: namespace, name: "ballast-gossip"},
	}
	for _, verb := range []string{"get", "list", "watch"} {
		controllerOnly = append(controllerOnly, access{verb: verb, group: ballast, resource: "addressclaims"})
	}
	for _, resource := range []string{"ipaddresspools", "l2advertisements", "bgpadvertisements", "bgppeers", "bfdprofiles", "communities", "settings", "addressclaims"} {
		controllerOnly = append(controllerOnly, access{verb: "patch", group: ballast, resource: resource, sub: "status"})
	}
	speakerOnly := []access{
		{verb: "create", group: ballast, resource: "speakers"},
		{verb: "get", resource: "pods", ns: namespace},
		{verb: "get", group: "apps", resource: "daemonsets", ns: namespace},
	}
	both := append(watched(), access{verb: "patch", group: ballast, resource: "speakers", sub: "status"})
	for account, lists := range map[string]struct{ yes, no []access }{
		"controller": {yes: append(controllerOnly, both...), no: append(speakerOnly, append(forbidden(),
			access{verb: "update", resource: "secrets", ns: namespace, name: "router-password"},
			access{verb: "create", group: "coordination.k8s.io", resource: "leases", ns: "kube-system"})...)},
		"speaker": {yes: append(speakerOnly, both...), no: append(controllerOnly, forbidden()...)},
	} {
		for _, a := range lists.yes {
			t.Run(account+" may "+a.String(), func(t *testing.T) {
				if !may(t, account, a.attributes()) {
					t.Error("refused")
				}
			})
		}
		for _, a := range lists.no {
			t.Run(account+" may not "+a.String(), func(t *testing.T) {
				if may(t, account, a.attributes()) {
					t.Error("allowed")
				}
			})
		}
	}
}
