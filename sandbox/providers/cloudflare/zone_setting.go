package cloudflare

import (
	"fmt"
	"net/http"
	"strings"

	"overlord/sandbox/providers/kit"
)

var zoneSettingFields = []kit.Field{
	{Name: "zoneId", Type: kit.String, Required: true, Replace: true},
	{Name: "settingId", Type: kit.String, Required: true, Replace: true},
	{Name: "value", Type: kit.Any, Required: true, Shaped: true},
	{Name: "enabled", Type: kit.Bool, Computed: true},
	{Name: "editable", Type: kit.Bool, Output: true},
	{Name: "modifiedOn", Type: kit.String, Output: true},
	{Name: "timeRemaining", Type: kit.Number, Output: true},
}

var zoneSetting = kit.Resource[*client]{
	Token:  "cloudflare:index/zoneSetting:ZoneSetting",
	Fields: zoneSettingFields,

	Create: func(c *call, in kit.Props) (kit.Result, error) { return setZoneSetting(c, in) },

	Read: func(c *call, id string, state kit.Props) (kit.Result, error) {
		zone := state.String("zoneId")
		if zone == "" {
			var found bool
			if zone, id, found = strings.Cut(id, "/"); !found {
				return kit.Result{}, fmt.Errorf("%q cannot be imported: write it as <zone_id>/<setting_id>", id)
			}
		}
		setting, err := c.Client.object(c, http.MethodGet, "zones/"+zone+"/settings/"+id, nil)
		if gone(err) {
			return kit.Result{}, nil
		}
		if err != nil {
			return kit.Result{}, err
		}
		return zoneSettingResult(setting, zone, id), nil
	},

	Update: func(c *call, _ string, _, in kit.Props, _ func(string) bool) (kit.Result, error) {
		return setZoneSetting(c, in)
	},

	Delete: func(c *call, _ string, state kit.Props) error {
		c.Warn(fmt.Sprintf("the zone setting %q cannot be deleted: it keeps its value, and only leaves the state",
			state.String("settingId")))
		return nil
	},
}

func setZoneSetting(c *call, in kit.Props) (kit.Result, error) {
	zone, id := in.String("zoneId"), in.String("settingId")
	body := toBody(zoneSettingFields, nil, in, "zoneId", "settingId")
	setting, err := c.Client.object(c, http.MethodPatch, "zones/"+zone+"/settings/"+id, body)
	if err != nil {
		return kit.Result{}, err
	}
	return zoneSettingResult(setting, zone, id), nil
}

func zoneSettingResult(setting map[string]any, zone, id string) kit.Result {
	live := toLive(zoneSettingFields, setting)
	live["zoneId"], live["settingId"] = zone, id
	return kit.Result{ID: id, Live: live}
}
