package language

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
)

// interpreter is the Python of a project.
type interpreter struct {
	path string
	// environment is the folder of its virtual environment, or "".
	environment string
}

// interpreterOf finds the Python that the project's option virtualenv names, below the folder of
// its Pulumi.yaml, or else PULUMI_RUNTIME_VIRTUALENV. Without either it is the machine's python3.
func interpreterOf(info *pulumirpc.ProgramInfo) (interpreter, error) {
	folder := info.GetOptions().GetFields()["virtualenv"].GetStringValue()
	if folder == "" {
		folder = os.Getenv("PULUMI_RUNTIME_VIRTUALENV")
	}
	if folder == "" {
		path, err := exec.LookPath("python3")
		return interpreter{path: path}, err
	}
	if !filepath.IsAbs(folder) {
		folder = filepath.Join(info.GetRootDirectory(), folder)
	}
	path := filepath.Join(folder, "bin", "python")
	if _, err := os.Stat(path); err != nil {
		return interpreter{}, fmt.Errorf("%s is not a virtual environment: make it with "+
			"`python3 -m venv %s` and install requirements.txt into it", folder, folder)
	}
	return interpreter{path: path, environment: folder}, nil
}

// command is a call of the interpreter with its environment activated.
func (i interpreter) command(ctx context.Context, args ...string) *exec.Cmd {
	command := exec.CommandContext(ctx, i.path, args...)
	command.Env = os.Environ()
	if i.environment != "" {
		command.Env = slices.DeleteFunc(command.Env, func(pair string) bool {
			return strings.HasPrefix(pair, "PYTHONHOME=")
		})
		command.Env = append(command.Env, "VIRTUAL_ENV="+i.environment,
			"PATH="+filepath.Join(i.environment, "bin")+string(os.PathListSeparator)+os.Getenv("PATH"))
	}
	return command
}
