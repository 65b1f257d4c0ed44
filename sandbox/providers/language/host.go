// Package language stands in for pulumi-language-python: it runs a Python program for the engine
// with the SDK's own starter, as the official host does.
package language

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

const (
	sdk = "github.com/pulumi/pulumi/sdk/v3"
	// starter is the SDK's program that runs a Pulumi program; build.sh puts it beside this one.
	starter = "pulumi-language-python-exec"
	// largestMessage is the engine's own limit in bytes.
	largestMessage = 400 * 1024 * 1024
	// alreadyShown is the starter's exit code when it has reported the error itself.
	alreadyShown = 32
)

// Serve answers the engine until it is done with this process.
func Serve(args []string) error {
	engine := ""
	for _, arg := range args {
		if !strings.HasPrefix(arg, "-") {
			engine = arg
		}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	root, end := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer end()
	h := &host{engine: engine, folder: filepath.Dir(self), root: root, end: end}
	if engine != "" {
		go h.endWithParent(os.Getppid())
	}
	rpc := grpc.NewServer(grpc.MaxRecvMsgSize(largestMessage), grpc.MaxSendMsgSize(largestMessage))
	pulumirpc.RegisterLanguageRuntimeServer(rpc, h)
	context.AfterFunc(root, func() {
		h.running.Wait()
		rpc.Stop()
	})
	fmt.Printf("%d\n", listener.Addr().(*net.TCPAddr).Port)
	if err := rpc.Serve(listener); !errors.Is(err, grpc.ErrServerStopped) {
		return err
	}
	return nil
}

type host struct {
	pulumirpc.UnimplementedLanguageRuntimeServer
	engine string
	// folder is where the starter is.
	folder string

	root    context.Context
	end     context.CancelFunc
	running sync.WaitGroup
}

// endWithParent ends the host after its engine died: one that was killed says nothing.
func (h *host) endWithParent(parent int) {
	for os.Getppid() == parent {
		time.Sleep(500 * time.Millisecond)
	}
	h.end()
}

func (h *host) Handshake(
	context.Context, *pulumirpc.LanguageHandshakeRequest,
) (*pulumirpc.LanguageHandshakeResponse, error) {
	return &pulumirpc.LanguageHandshakeResponse{}, nil
}

func (h *host) GetPluginInfo(context.Context, *emptypb.Empty) (*pulumirpc.PluginInfo, error) {
	if build, ok := debug.ReadBuildInfo(); ok {
		for _, module := range build.Deps {
			if module.Path == sdk {
				return &pulumirpc.PluginInfo{Version: module.Version}, nil
			}
		}
	}
	return &pulumirpc.PluginInfo{}, nil
}

func (h *host) Cancel(context.Context, *emptypb.Empty) (*emptypb.Empty, error) {
	// After this answer.
	time.AfterFunc(10*time.Millisecond, h.end)
	return &emptypb.Empty{}, nil
}

// GetRequiredPackages names none: to name the plugins here would make the engine try to download
// what it finds on PATH anyway.
func (h *host) GetRequiredPackages(
	context.Context, *pulumirpc.GetRequiredPackagesRequest,
) (*pulumirpc.GetRequiredPackagesResponse, error) {
	return &pulumirpc.GetRequiredPackagesResponse{}, nil
}

func (h *host) RuntimeOptionsPrompts(
	context.Context, *pulumirpc.RuntimeOptionsRequest,
) (*pulumirpc.RuntimeOptionsResponse, error) {
	return &pulumirpc.RuntimeOptionsResponse{}, nil
}

func (h *host) About(
	ctx context.Context, in *pulumirpc.AboutRequest,
) (*pulumirpc.AboutResponse, error) {
	found, err := interpreterOf(in.GetInfo())
	if err != nil {
		return nil, err
	}
	said, err := found.command(ctx, "-c", "import platform; print(platform.python_version())").Output()
	if err != nil {
		return nil, err
	}
	return &pulumirpc.AboutResponse{Executable: found.path, Version: strings.TrimSpace(string(said))}, nil
}

// dependencies lists the packages of an environment, whether or not it has pip.
const dependencies = `import importlib.metadata as m, json
print(json.dumps([{"name": d.name, "version": d.version} for d in m.distributions()]))`

func (h *host) GetProgramDependencies(
	ctx context.Context, in *pulumirpc.GetProgramDependenciesRequest,
) (*pulumirpc.GetProgramDependenciesResponse, error) {
	found, err := interpreterOf(in.GetInfo())
	if err != nil {
		return nil, err
	}
	said, err := found.command(ctx, "-c", dependencies).Output()
	if err != nil {
		return nil, err
	}
	answer := &pulumirpc.GetProgramDependenciesResponse{}
	return answer, json.Unmarshal(said, &answer.Dependencies)
}

func (h *host) InstallDependencies(
	in *pulumirpc.InstallDependenciesRequest,
	out grpc.ServerStreamingServer[pulumirpc.InstallDependenciesResponse],
) error {
	requirements := filepath.Join(in.GetInfo().GetProgramDirectory(), "requirements.txt")
	if _, err := os.Stat(requirements); err != nil {
		return nil
	}
	found, err := interpreterOf(in.GetInfo())
	if err != nil {
		return err
	}
	said, err := found.command(out.Context(), "-m", "pip", "install", "-r", requirements).CombinedOutput()
	if sent := out.Send(&pulumirpc.InstallDependenciesResponse{Stdout: said}); sent != nil {
		return sent
	}
	if err != nil {
		return fmt.Errorf("pip could not install what %s lists: %w", requirements, err)
	}
	return nil
}

func (h *host) RunPlugin(
	in *pulumirpc.RunPluginRequest, _ grpc.ServerStreamingServer[pulumirpc.RunPluginResponse],
) error {
	return status.Errorf(codes.Unimplemented, "%s: the sandbox's Python language host runs no plugins "+
		"from source; install the official pulumi-language-python for that", in.GetInfo().GetProgramDirectory())
}

func (h *host) Run(ctx context.Context, in *pulumirpc.RunRequest) (*pulumirpc.RunResponse, error) {
	found, err := interpreterOf(in.GetInfo())
	if err != nil {
		return nil, err
	}
	configuration, err := configurationOf(in)
	if err != nil {
		return nil, err
	}
	h.running.Add(1)
	defer h.running.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(h.root, cancel)()

	// Should this process be killed, the kernel ends the program, which it ties to the thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	program := found.command(ctx, append([]string{"-u", filepath.Join(h.folder, starter)}, h.arguments(in)...)...)
	program.Env = append(program.Env, configuration...)
	program.Dir = in.GetInfo().GetProgramDirectory()
	program.Stdout, program.Stderr = os.Stdout, os.Stderr
	// A group of its own: an interrupt at the keyboard is for the engine, which then ends the program.
	program.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	err = program.Run()
	if ctx.Err() != nil {
		return &pulumirpc.RunResponse{Bail: true}, nil
	}
	return answerTo(err)
}

// answerTo is what the engine is told of a program that has ended.
func answerTo(err error) (*pulumirpc.RunResponse, error) {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return &pulumirpc.RunResponse{}, nil
	case errors.As(err, &exit) && exit.ExitCode() == alreadyShown:
		return &pulumirpc.RunResponse{Bail: true}, nil
	case errors.As(err, &exit):
		return &pulumirpc.RunResponse{Error: fmt.Sprintf("the program ended with exit code %d", exit.ExitCode())}, nil
	}
	return nil, err
}

// configurationOf is the variables in which the starter looks for the stack's configuration.
func configurationOf(in *pulumirpc.RunRequest) ([]string, error) {
	config, secrets := in.GetConfig(), in.GetConfigSecretKeys()
	// None is an empty collection there, and no null.
	if config == nil {
		config = map[string]string{}
	}
	if secrets == nil {
		secrets = []string{}
	}
	values, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	keys, err := json.Marshal(secrets)
	return []string{"PULUMI_CONFIG=" + string(values), "PULUMI_CONFIG_SECRET_KEYS=" + string(keys)}, err
}

// arguments is what the starter wants to know of a run.
func (h *host) arguments(in *pulumirpc.RunRequest) []string {
	info := in.GetInfo()
	return append([]string{
		"--engine", h.engine,
		"--monitor", in.GetMonitorAddress(),
		"--project", in.GetProject(),
		"--stack", in.GetStack(),
		"--organization", in.GetOrganization(),
		"--root_directory", info.GetRootDirectory(),
		"--pwd", in.GetPwd(),
		"--dry_run", strconv.FormatBool(in.GetDryRun()),
		"--parallel", strconv.Itoa(int(in.GetParallel())),
		filepath.Join(info.GetProgramDirectory(), info.GetEntryPoint()),
	}, in.GetArgs()...)
}
