package command

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"overlord/sandbox/providers/kit"
)

var localCommand = command("command:local:Command", []kit.Field{
	{Name: "dir", Type: kit.String},
	{Name: "interpreter", Type: kit.List, Elem: kit.Items(kit.String)},
	{Name: "assetPaths", Type: kit.List, Validate: unsupported},
	{Name: "archivePaths", Type: kit.List, Validate: unsupported},
}, runLocal)

// patience is how long a cancelled command may take to end by itself.
const patience = 2 * time.Second

func runLocal(c *call, in kit.Props, command string, previous kit.Props) (kit.Props, error) {
	argv := in.Strings("interpreter")
	if len(argv) == 0 {
		argv = []string{"/bin/sh", "-c"}
		if runtime.GOOS == "windows" {
			argv = []string{"cmd", "/C"}
		}
	}
	process := exec.CommandContext(c, argv[0], append(argv[1:], command)...)
	// Its own process group, so that cancelling also ends what the command started.
	process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	process.Cancel = func() error { return syscall.Kill(-process.Process.Pid, syscall.SIGINT) }
	process.WaitDelay = patience
	process.Dir = in.String("dir")
	process.Env = os.Environ()
	for name, value := range in.StringMap("environment") {
		process.Env = append(process.Env, name+"="+value)
	}
	for _, variable := range previousOutput(in, previous) {
		process.Env = append(process.Env, variable[0]+"="+variable[1])
	}
	if in.String("stdin") != "" {
		process.Stdin = strings.NewReader(in.String("stdin"))
	}
	shown := newOutput(c, in)
	process.Stdout, process.Stderr = shown.out(), shown.err()
	err := process.Run()
	if errors.Is(c.Err(), context.Canceled) {
		err = c.Err()
		// What ignored the interrupt ends the hard way, children included.
		_ = syscall.Kill(-process.Process.Pid, syscall.SIGKILL)
	}
	return shown.finish(command, err)
}

func unsupported(any) string {
	return "the stand-in of the sandbox does not support this property; the official command plugin does"
}
