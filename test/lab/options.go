package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/ballast-lb/ballast/test/assets"
)

// ProxyMode is kube-proxy's --proxy-mode.
type ProxyMode string

// The modes that need no kernel module.
const (
	NFTables ProxyMode = "nftables"
	IPTables ProxyMode = "iptables"
)

// Options says what a lab consists of. The zero value is a control plane and two
// clients without nodes or routers; Prefix is then "blst".
type Options struct {
	// Prefix names everything; two labs of one prefix exclude each other. Default "blst".
	Prefix string
	// Nodes is how many nodes there are, 0..30, named n1, n2, ...
	Nodes int
	// Routers is 0..2, named r1 and r2. Without one there is no way between LAN and WAN.
	Routers int
	// RouterKind is the routing daemon of all routers, default FRR.
	RouterKind RouterKind
	// BFD is how FRR and BIRD watch the nodes, 300 ms x 3 by default. The others have no BFD.
	BFD BFDTimers
	// SecondLAN gives every node a second card, eth1, on the same LAN, with addresses from
	// .61 and ::61 on and no route of its own; each card then answers for its own addresses alone.
	SecondLAN bool
	// OtherLAN is a second network: every node has a further card on it, eth1 (eth2 beside SecondLAN), with the last octet
	// that it has on the LAN, and lan2 is a client there. It has no router; the Nodes' addresses lie on the first LAN only.
	OtherLAN bool
	// ProxyMode defaults to NFTables.
	ProxyMode ProxyMode
	// Controllers is the number of Ballast controllers (controller-1, ...), default 1.
	// They run on the control-plane host; those after the first get other metrics and health ports.
	Controllers int
	// NoBallast leaves Ballast out: no CRDs, no RBAC, no controller, no speakers.
	NoBallast bool
	// BinDir holds controller and speaker; default BALLAST_LAB_BIN, else bin/ of the repository.
	BinDir string
	// ConfigDir holds crd, rbac and policy; default config/ of the repository.
	ConfigDir string
	// KubeBin holds etcd, kube-apiserver and so on; default KUBEBUILDER_ASSETS, else the
	// newest that `make kube` has built.
	KubeBin string
	// ControllerArgs and SpeakerArgs are added to their command lines.
	ControllerArgs, SpeakerArgs []string
	// Backoff is how processes that end by themselves are started again.
	Backoff Backoff
	// LogDir takes the processes' logs and survives Down; default: within the lab's
	// folder, which Down removes.
	LogDir string
	// Progress, if set, is told in a few words what Up does. It is called from many goroutines.
	Progress func(message string)
	// DownOnSignal removes the lab on SIGINT and SIGTERM and ends the process with status
	// 130. Without it the caller sees to that.
	DownOnSignal bool
}

const (
	maxNodes   = 30
	maxRouters = 2
)

// Addresses of the lab. The same in every lab: namespaces keep them apart.
var (
	lanV4 = netip.MustParsePrefix("10.10.0.0/24")
	lanV6 = netip.MustParsePrefix("fd00:10::/64")
	wanV4 = netip.MustParsePrefix("10.20.0.0/24")
	wanV6 = netip.MustParsePrefix("fd00:20::/64")

	otherV4 = netip.MustParsePrefix("10.30.0.0/24")
	otherV6 = netip.MustParsePrefix("fd00:30::/64")
	// rackV4 is where StandApart puts nodes.
	rackV4 = netip.MustParsePrefix("10.40.0.0/24")
)

const (
	serviceCIDRs = "10.96.0.0/12,fd00:96::/112"
	// clusterCIDRs covers the pods of all nodes.
	clusterCIDRs = "10.244.0.0/16,fd00:10:244::/48"
	// NodeASN is what the samples use.
	NodeASN = 64512
	// RouterASN is the routers'.
	RouterASN = 64513
	// BackendPort is where backends listen unless told otherwise.
	BackendPort = 8080
)

// withDefaults fills in what was left out and checks the rest.
func (o Options) withDefaults() (Options, error) {
	o.Backoff = o.Backoff.withDefaults()
	if o.Prefix == "" {
		o.Prefix = "blst"
	}
	if o.ProxyMode == "" {
		o.ProxyMode = NFTables
	}
	if o.Controllers == 0 {
		o.Controllers = 1
	}
	if o.RouterKind == "" {
		o.RouterKind = FRR
	}
	o.BFD = o.BFD.withDefaults()
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	if o.Nodes < 0 || o.Nodes > maxNodes || o.Routers < 0 || o.Routers > maxRouters || o.Controllers < 0 {
		return o, fmt.Errorf("check options: want 0..%d nodes, 0..%d routers", maxNodes, maxRouters)
	}
	if o.ProxyMode != NFTables && o.ProxyMode != IPTables {
		return o, fmt.Errorf("check options: proxy mode %q is neither %s nor %s", o.ProxyMode, NFTables, IPTables)
	}
	if _, err := o.RouterKind.daemon(); err != nil {
		return o, fmt.Errorf("check options: %w", err)
	}
	if os.Geteuid() != 0 {
		return o, errors.New("check privileges: the lab makes network namespaces and needs root")
	}
	o, err := o.withFolders()
	if err != nil {
		return o, err
	}
	return o, o.checkPrograms()
}

// withFolders finds the repository's folders and the Kubernetes binaries.
func (o Options) withFolders() (Options, error) {
	o.BinDir = orDefault(o.BinDir, os.Getenv("BALLAST_LAB_BIN"))
	if !o.NoBallast && (o.BinDir == "" || o.ConfigDir == "") {
		root, err := RepositoryRoot()
		if err != nil {
			return o, err
		}
		o.BinDir = orDefault(o.BinDir, filepath.Join(root, "bin"))
		o.ConfigDir = orDefault(o.ConfigDir, filepath.Join(root, "config"))
	}
	for _, dir := range []*string{&o.BinDir, &o.ConfigDir, &o.LogDir} {
		if *dir == "" {
			continue
		}
		abs, err := filepath.Abs(*dir)
		if err != nil {
			return o, fmt.Errorf("resolve folder: %w", err)
		}
		*dir = abs
	}
	if o.KubeBin == "" {
		dir, err := assets.Dir()
		if err != nil {
			return o, err
		}
		o.KubeBin = dir
	}
	return o, nil
}

func orDefault(value, fallback string) string {
	if value == "" {
		return fallback
	}
	return value
}

// checkPrograms fails with how to get what is missing.
func (o Options) checkPrograms() error {
	for _, name := range []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-proxy", "kubectl"} {
		if !isFile(filepath.Join(o.KubeBin, name)) {
			return fmt.Errorf("find %s: not in %s; run `make kube`", name, o.KubeBin)
		}
	}
	tools := []string{"/usr/sbin/ip", "/usr/sbin/nft", "/usr/sbin/iptables"}
	if daemon, err := o.RouterKind.daemon(); err == nil && o.Routers > 0 {
		tools = append(tools, daemon.tools...)
	}
	for _, path := range tools {
		if !isFile(path) {
			return fmt.Errorf("find %s: missing; run tools/deps.sh", path)
		}
	}
	if o.NoBallast {
		return nil
	}
	for _, name := range []string{"controller", "speaker"} {
		if !isFile(filepath.Join(o.BinDir, name)) {
			return fmt.Errorf("find %s: not in %s; run `make build`", name, o.BinDir)
		}
	}
	return nil
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// RepositoryRoot is the folder of Ballast's go.mod: above the working directory, else
// above the running program.
func RepositoryRoot() (string, error) {
	var starts []string
	if dir, err := os.Getwd(); err == nil {
		starts = append(starts, dir)
	}
	if exe, err := os.Executable(); err == nil {
		starts = append(starts, filepath.Dir(exe))
	}
	for _, dir := range starts {
		for ; ; dir = filepath.Dir(dir) {
			data, err := os.ReadFile(filepath.Join(dir, "go.mod"))
			if err == nil && strings.HasPrefix(string(data), "module github.com/ballast-lb/ballast\n") {
				return dir, nil
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	return "", errors.New("find the repository: no go.mod of Ballast above the working directory or the program; say where controller, speaker and config are (--bin, --config)")
}
