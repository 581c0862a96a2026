// Package version says which version of Ballast this is.
package version

import (
	"fmt"
	"runtime"
)

// Version is set by the linker (-X); a build without it is a development build.
var Version = "dev"

// String describes a binary of Ballast: its name, version and platform.
func String(binary string) string {
	return fmt.Sprintf("ballast %s %s (%s, %s/%s)", binary, Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
