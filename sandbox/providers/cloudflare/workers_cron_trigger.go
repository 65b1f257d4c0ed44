package cloudflare

import (
	"net/http"

	"overlord/sandbox/providers/kit"
)

var workersCronTrigger = kit.Resource[*client]{
	Token: "cloudflare:index/workersCronTrigger:WorkersCronTrigger",
	Fields: []kit.Field{
		{Name: "accountId", Type: kit.String, Required: true, Replace: true},
		{Name: "scriptName", Type: kit.String, Required: true, Replace: true},
		{Name: "schedules", Type: kit.Set, Required: true, Elem: []kit.Field{
			{Name: "cron", Type: kit.String, Required: true},
			{Name: "createdOn", Type: kit.String, Computed: true},
			{Name: "modifiedOn", Type: kit.String, Computed: true},
		}},
	},

	Create: func(c *call, in kit.Props) (kit.Result, error) { return setSchedules(c, in) },

	Read: func(c *call, id string, state kit.Props) (kit.Result, error) {
		account, name, err := scriptOf(id, state)
		if err != nil {
			return kit.Result{}, err
		}
		found, err := c.Client.object(c, http.MethodGet, "accounts/"+account+"/workers/scripts/"+name+"/schedules", nil)
		if gone(err) {
			return kit.Result{}, nil
		}
		if err != nil {
			return kit.Result{}, err
		}
		return schedulesResult(found, account, name), nil
	},

	Update: func(c *call, _ string, _, in kit.Props, _ func(string) bool) (kit.Result, error) {
		return setSchedules(c, in)
	},

	// As the official provider: nothing. The schedules go with the script.
	Delete: func(*call, string, kit.Props) error { return nil },
}

func setSchedules(c *call, in kit.Props) (kit.Result, error) {
	account, name := in.String("accountId"), in.String("scriptName")
	body := []any{}
	for _, schedule := range in.Objects("schedules") {
		body = append(body, map[string]any{"cron": schedule.String("cron")})
	}
	found, err := c.Client.object(c, http.MethodPut, "accounts/"+account+"/workers/scripts/"+name+"/schedules", body)
	if err != nil {
		return kit.Result{}, err
	}
	return schedulesResult(found, account, name), nil
}

func schedulesResult(found map[string]any, account, name string) kit.Result {
	return kit.Result{ID: name, Live: kit.Props{
		"accountId": account, "scriptName": name, "schedules": rename(found["schedules"], toCamel),
	}}
}
