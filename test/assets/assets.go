// Package assets finds the Kubernetes binaries and the Ingress controller that tests and the lab
// run. It builds nothing: `make kube` and `make ingress` do.
package assets

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Dir returns the folder with etcd, kube-apiserver, kube-controller-manager, kube-proxy
// and kubectl: $KUBEBUILDER_ASSETS, or else the newest that `make kube` has built. The
// error says what to do.
func Dir() (string, error) {
	dir := os.Getenv("KUBEBUILDER_ASSETS")
	if dir == "" {
		built, err := newest()
		if err != nil {
			return "", err
		}
		dir = built
	}
	for _, binary := range []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-proxy", "kubectl"} {
		if _, err := os.Stat(filepath.Join(dir, binary)); err != nil {
			return "", fmt.Errorf("find Kubernetes binaries: %w; build them with: make kube", err)
		}
	}
	return dir, nil
}

// newest returns the folder that was built last.
func newest() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find cache folder: %w", err)
	}
	dir, err := last(filepath.Join(cache, "ballast", "kube"))
	if err == nil && dir == "" {
		err = errors.New("find Kubernetes binaries: there are none; build them with: make kube")
	}
	return dir, err
}
