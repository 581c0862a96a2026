package ballast_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// module is the path of this module.
const module = "github.com/ballast-lb/ballast/"

// mayImport lists what the pure packages and the protocol packages may import beside the
// standard library: what decides stays free of clients, clocks, loggers and sockets.
func mayImport() map[string][]string {
	const (
		name, api, announce, election, ipam = module + "internal/name", module + "api/v1alpha1", module + "internal/announce", module + "internal/election", module + "internal/ipam"
		arp, ndp, link                      = module + "internal/arp", module + "internal/ndp", module + "internal/link"
		ether                               = module + "internal/ether"
		packet, bpf, unix                   = "github.com/mdlayher/packet", "golang.org/x/net/bpf", "golang.org/x/sys/unix"
		labels, netipx, logr                = "k8s.io/apimachinery/pkg/labels", "go4.org/netipx", "github.com/go-logr/logr"
	)
	return map[string][]string{
		"cmd/kubectl-ballast": {
			name, api, ipam, announce, module + "internal/config", module + "internal/version", netipx, "github.com/spf13/cobra", "sigs.k8s.io/yaml",
			"k8s.io/api/*", "k8s.io/apimachinery/*", "k8s.io/cli-runtime/*", "k8s.io/client-go/*", "sigs.k8s.io/controller-runtime/pkg/client",
		},
		"api/v1alpha1":        {"k8s.io/apimachinery/*", "k8s.io/api/core/v1"},
		"internal/name":       {},
		"internal/election":   {name},
		"internal/ipam":       {name, api, labels, netipx, "github.com/RoaringBitmap/roaring/v2/roaring64"},
		"internal/announce":   {name, election, api, labels},
		"internal/config":     {name, ipam, announce, election, api, "k8s.io/api/*", "k8s.io/apimachinery/*", netipx},
		"internal/keep":       {name, announce, election},
		"internal/link":       {logr, "github.com/vishvananda/*", "golang.org/x/sys/unix"},
		"internal/ether":      {packet, bpf, unix},
		"internal/arp":        {ether, bpf},
		"internal/ndp":        {ether, bpf, unix},
		"internal/pathcheck":  {name, bpf, unix},
		"internal/lan":        {ether, link, bpf, unix},
		"internal/layer2":     {name, announce, arp, ndp, link, logr, "golang.org/x/time/rate"},
		"internal/membership": {name, logr, "github.com/hashicorp/memberlist"},
		"internal/bfd":        {logr, unix},
		"internal/neighbor":   {logr, unix},
		"internal/peering":    {announce, module + "internal/bfd", module + "internal/bgp"},
		"internal/bgp":        {name, announce, logr, "github.com/osrg/gobgp/*", "golang.org/x/time/rate", "google.golang.org/protobuf/*"},
	}
}

// onlyIn names, for libraries that are hidden behind a package or a few, those.
func onlyIn() map[string][]string {
	return map[string][]string{
		"github.com/osrg/gobgp/*":         {"internal/bgp"},
		"github.com/vishvananda/*":        {"internal/link"},
		"github.com/mdlayher/*":           {"internal/ether"},
		"github.com/hashicorp/memberlist": {"internal/membership"},
	}
}

// forbidden are packages of the standard library that a pure package has no use for.
func forbidden() []string {
	return []string{"os", "net", "net/http", "log", "log/slog", "math/rand", "math/rand/v2", "sync"}
}

func TestImports(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...").Output()
	if err != nil {
		t.Fatalf("list packages: %v", err)
	}
	rules := mayImport()
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		pkg := strings.TrimPrefix(fields[0], module)
		allowed, ruled := rules[pkg]
		delete(rules, pkg)
		pure := slices.Contains([]string{"internal/name", "internal/ipam", "internal/election", "internal/announce", "internal/config"}, pkg)
		for _, imported := range fields[1:] {
			std := !strings.Contains(strings.SplitN(imported, "/", 2)[0], ".")
			switch {
			case std && pure && slices.Contains(forbidden(), imported):
				t.Errorf("%s is pure and must not import %s", pkg, imported)
			case !std && ruled && !slices.ContainsFunc(allowed, func(rule string) bool { return matches(rule, imported) }):
				t.Errorf("%s must not import %s", pkg, imported)
			}
			for library, home := range onlyIn() {
				if matches(library, imported) && !slices.Contains(home, pkg) && !strings.HasPrefix(pkg, "test/") {
					t.Errorf("%s must not import %s: only %s does", pkg, imported, home)
				}
			}
		}
	}
	for pkg := range rules {
		t.Errorf("there is a rule for %s, which does not exist", pkg)
	}
}

// matches says whether a rule, a path or a path that ends in "/*", is about an import.
func matches(rule, imported string) bool {
	prefix, tree := strings.CutSuffix(rule, "*")
	return imported == rule || tree && strings.HasPrefix(imported, prefix)
}
