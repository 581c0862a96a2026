package assets

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Ingress returns the path of the Ingress controller, skipper: the one that `make ingress` has built last. The error says
// what to do.
func Ingress() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find cache folder: %w", err)
	}
	dir, err := last(filepath.Join(cache, "ballast", "ingress"))
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "skipper")
	if dir == "" {
		err = errors.New("there is none")
	} else {
		_, err = os.Stat(path)
	}
	if err != nil {
		return "", fmt.Errorf("find Ingress controller: %w; build it with: make ingress", err)
	}
	return path, nil
}

// last returns the folder ROOT/VERSION/bin that was built last; empty if there is none.
func last(root string) (string, error) {
	stamps, err := filepath.Glob(filepath.Join(root, "*", "bin", "BUILT"))
	if err != nil {
		return "", fmt.Errorf("look into the cache folder: %w", err)
	}
	var dir string
	var built time.Time
	for _, stamp := range stamps {
		if info, err := os.Stat(stamp); err == nil && info.ModTime().After(built) {
			dir, built = filepath.Dir(stamp), info.ModTime()
		}
	}
	return dir, nil
}
