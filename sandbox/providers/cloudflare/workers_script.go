package cloudflare

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"os"
	"strings"

	"overlord/sandbox/providers/kit"
)

var scriptMetadata = []kit.Field{
	{Name: "mainModule", Type: kit.String},
	{Name: "bindings", Type: kit.Any, Computed: true, Shaped: true},
	{Name: "compatibilityDate", Type: kit.String, Computed: true},
	{Name: "compatibilityFlags", Type: kit.Set, Computed: true, Elem: kit.Items(kit.String)},
	{Name: "migrations", Type: kit.Any},
	{Name: "observability", Type: kit.Any, Computed: true, Shaped: true},
	{Name: "limits", Type: kit.Any, Computed: true, Shaped: true},
	{Name: "placement", Type: kit.Any, Computed: true, Shaped: true},
	{Name: "tailConsumers", Type: kit.Any, Computed: true, Shaped: true},
	{Name: "keepBindings", Type: kit.Set, Elem: kit.Items(kit.String)},
	{Name: "logpush", Type: kit.Bool, Default: false},
	{Name: "usageModel", Type: kit.String, Default: "standard"},
}

var workersScript = kit.Resource[*client]{
	Token: "cloudflare:index/workersScript:WorkersScript",
	Fields: append([]kit.Field{
		{Name: "accountId", Type: kit.String, Required: true, Replace: true},
		{Name: "scriptName", Type: kit.String, Required: true, Replace: true},
		{Name: "content", Type: kit.String},
		{Name: "contentFile", Type: kit.String},
		{Name: "contentSha256", Type: kit.String},
		{Name: "contentType", Type: kit.String, Default: "application/javascript+module"},
		{Name: "createdOn", Type: kit.String, Output: true},
		{Name: "modifiedOn", Type: kit.String, Output: true},
		{Name: "etag", Type: kit.String, Output: true},
		{Name: "handlers", Type: kit.List, Output: true},
		{Name: "hasAssets", Type: kit.Bool, Output: true},
		{Name: "hasModules", Type: kit.Bool, Output: true},
		{Name: "migrationTag", Type: kit.String, Output: true},
		{Name: "startupTimeMs", Type: kit.Number, Output: true},
	}, scriptMetadata...),

	Check: func(in kit.Props) []kit.Failure {
		_, content := in["content"]
		_, file := in["contentFile"]
		switch {
		case content == file:
			return []kit.Failure{{Property: "content", Reason: "exactly one of \"content\" and \"contentFile\" must be set"}}
		case in["mainModule"] == nil:
			return []kit.Failure{{Property: "mainModule", Reason: "the stand-in of the sandbox uploads modules only: name the main one"}}
		}
		return nil
	},

	Create: func(c *call, in kit.Props) (kit.Result, error) { return uploadScript(c, in) },

	Read: func(c *call, id string, state kit.Props) (kit.Result, error) {
		account, name, err := scriptOf(id, state)
		if err != nil {
			return kit.Result{}, err
		}
		service, err := c.Client.object(c, http.MethodGet, "accounts/"+account+"/workers/services/"+name, nil)
		if gone(err) {
			return kit.Result{}, nil
		}
		if err != nil {
			return kit.Result{}, err
		}
		environment, _ := service["default_environment"].(map[string]any)
		script, _ := environment["script"].(map[string]any)
		return scriptResult(script, account, name), nil
	},

	Update: func(c *call, _ string, _, in kit.Props, _ func(string) bool) (kit.Result, error) {
		return uploadScript(c, in)
	},

	Delete: func(c *call, id string, state kit.Props) error {
		account, name, err := scriptOf(id, state)
		if err != nil {
			return err
		}
		_, err = c.Client.do(c, http.MethodDelete, "accounts/"+account+"/workers/scripts/"+name, nil)
		return err
	},
}

// uploadScript sends a script as the API wants it: its metadata as JSON, then its module.
func uploadScript(c *call, in kit.Props) (kit.Result, error) {
	content := []byte(in.String("content"))
	if path := in.String("contentFile"); path != "" {
		var err error
		if content, err = os.ReadFile(path); err != nil {
			return kit.Result{}, fmt.Errorf("contentFile: %w", err)
		}
	}
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	metadata, err := json.Marshal(toBody(scriptMetadata, nil, in))
	if err != nil {
		return kit.Result{}, err
	}
	module := in.String("mainModule")
	err = errors.Join(
		addPart(form, `form-data; name="metadata"`, "application/json", metadata),
		addPart(form, fmt.Sprintf(`form-data; name=%q; filename=%q`, module, module), in.String("contentType"), content),
		form.Close(),
	)
	if err != nil {
		return kit.Result{}, err
	}
	account, name := in.String("accountId"), in.String("scriptName")
	result, err := c.Client.send(c, http.MethodPut, "accounts/"+account+"/workers/scripts/"+name,
		form.FormDataContentType(), bytes.NewReader(body.Bytes()))
	if err != nil {
		return kit.Result{}, err
	}
	script, _ := result.(map[string]any)
	return scriptResult(script, account, name), nil
}

func addPart(form *multipart.Writer, disposition, contentType string, content []byte) error {
	part, err := form.CreatePart(textproto.MIMEHeader{
		"Content-Disposition": {disposition}, "Content-Type": {contentType},
	})
	if err != nil {
		return err
	}
	_, err = io.Copy(part, bytes.NewReader(content))
	return err
}

func scriptResult(script map[string]any, account, name string) kit.Result {
	// What a script was made of is read back by other requests than these; the state keeps it.
	live := kit.Props{"accountId": account, "scriptName": name}
	for _, field := range []string{"createdOn", "modifiedOn", "etag", "handlers", "hasAssets", "hasModules", "migrationTag", "startupTimeMs"} {
		if value, ok := script[toSnake(field)]; ok {
			live[field] = value
		}
	}
	return kit.Result{ID: name, Live: live}
}

// scriptOf finds a script by its state, or on an import by <account_id>/<script_name>.
func scriptOf(id string, state kit.Props) (account, name string, err error) {
	if state.Has("accountId") {
		return state.String("accountId"), state.String("scriptName"), nil
	}
	account, name, found := strings.Cut(id, "/")
	if !found {
		return "", "", fmt.Errorf("%q cannot be imported: write it as <account_id>/<script_name>", id)
	}
	return account, name, nil
}
