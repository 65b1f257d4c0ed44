package command

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/crypto/ssh"

	"overlord/sandbox/providers/kit"
)

var copyToRemote = kit.Resource[client]{
	Token: "command:remote:CopyToRemote",
	Fields: []kit.Field{
		connectionField,
		{Name: "source", Type: kit.Any, Required: true, Validate: onlyFiles},
		{Name: "remotePath", Type: kit.String, Required: true},
		{Name: "triggers", Type: kit.List, Replace: true},
	},
	Opaque: true,

	Create: func(c *call, in kit.Props) (kit.Result, error) {
		if err := copyFile(c, in); err != nil {
			return kit.Result{}, err
		}
		return kit.Result{ID: newID("copy"), Live: kit.Props{}}, nil
	},

	Update: func(c *call, _ string, _, in kit.Props, _ func(string) bool) (kit.Result, error) {
		return kit.Result{Live: kit.Props{}}, copyFile(c, in)
	},

	// As the official provider: the copy stays where it is.
	Delete: func(*call, string, kit.Props) error { return nil },
}

func onlyFiles(in any) string {
	object, _ := in.(map[string]any)
	if source := kit.Props(object); source.Has("text") || source.Has("path") {
		if info, err := os.Stat(source.String("path")); source.Has("text") || (err == nil && !info.IsDir()) {
			return ""
		}
	}
	return "the stand-in of the sandbox copies a FileAsset or a StringAsset only; the official command plugin does more"
}

func copyFile(c *call, in kit.Props) error {
	source := in.Object("source")
	var content io.Reader = strings.NewReader(source.String("text"))
	if path := source.String("path"); path != "" {
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer func() { _ = file.Close() }()
		content = file
	}
	conn, err := dial(c, in.Object("connection"))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	session, err := conn.NewSession()
	if err != nil {
		return err
	}
	defer func() { _ = session.Close() }()
	session.Stdin = content
	path := "'" + strings.ReplaceAll(in.String("remotePath"), "'", `'\''`) + "'"
	if printed, err := session.CombinedOutput("cat > " + path); err != nil {
		var exit *ssh.ExitError
		if errors.As(err, &exit) {
			return fmt.Errorf("cannot write %s: %s", path, strings.TrimSpace(string(printed)))
		}
		return err
	}
	return nil
}
