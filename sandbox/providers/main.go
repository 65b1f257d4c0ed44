// One binary for all stand-in plugins: the name that it was started by says which one it is.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"overlord/sandbox/providers/cloudflare"
	"overlord/sandbox/providers/command"
	"overlord/sandbox/providers/hcloud"
	"overlord/sandbox/providers/kit"
	"overlord/sandbox/providers/language"
	"overlord/sandbox/providers/tailscale"
)

func main() {
	name := strings.TrimPrefix(filepath.Base(os.Args[0]), "pulumi-")
	if err := serve(name, os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "pulumi-%s: %v\n", name, err)
		os.Exit(1)
	}
}

func serve(name string, args []string) error {
	switch name {
	case "resource-cloudflare":
		return kit.Serve(cloudflare.Provider(), args)
	case "resource-command":
		return kit.Serve(command.Provider(), args)
	case "resource-hcloud":
		return kit.Serve(hcloud.Provider(), args)
	case "resource-tailscale":
		return kit.Serve(tailscale.Provider(), args)
	case "language-python":
		return language.Serve(args)
	}
	return fmt.Errorf("there is no stand-in of this name")
}
