// A desktop (noVNC) of a replica.

import RFB from "/console/vendor/novnc/core/rfb.js";

import { make, say } from "./page.js";

/** Shows the desktop of this secret in `box`; `password` null = it has none. */
export function showDesktop({ box, tools, state, provider }, secret, password) {
  const url = new URL(`/ucloud/${encodeURIComponent(provider)}/jobs/vnc/${secret}`, location.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  let rfb = null;
  let refused = "";

  const button = (words, onclick) => make("button", { type: "button", onclick }, words);
  const keys = button("Ctrl+Alt+Del", () => rfb?.sendCtrlAltDel());
  const full = button("Full screen", () => box.requestFullscreen().catch(() => say("This browser allows no full screen here.")));
  const again = button("Connect again", connect);
  tools.replaceChildren(keys, full, again);

  function connect() {
    again.hidden = true;
    box.replaceChildren();
    say(null);
    state("Connecting…");
    refused = "";
    rfb = new RFB(box, url.href, { wsProtocols: ["binary"], credentials: password === null ? {} : { password } });
    rfb.scaleViewport = true;
    rfb.addEventListener("connect", () => {
      state("Connected");
      rfb.focus();
    });
    rfb.addEventListener("desktopname", ({ detail }) => (document.title = detail.name || document.title));
    rfb.addEventListener("credentialsrequired", ask);
    rfb.addEventListener("securityfailure", ({ detail }) => {
      refused = `The desktop refused to let you in${detail.reason ? `: ${detail.reason}` : ""}.`;
    });
    rfb.addEventListener("disconnect", ({ detail }) => {
      rfb = null;
      again.hidden = false;
      state("Not connected");
      say(refused || (detail.clean ? "The desktop has ended." : UNREACHED), "wait");
    });
  }

  function ask() {
    const field = make("input", { type: "password", autocomplete: "off", "aria-label": "The desktop's password" });
    const form = make("form", { class: "ask" }, make("label", {}, "The desktop's password ", field), make("button", {}, "Let me in"));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      form.remove();
      password = field.value;
      rfb?.sendCredentials({ password });
    });
    box.append(form);
    field.focus();
  }

  connect();
}

const UNREACHED = "The desktop cannot be reached. It may still be starting, or its session is over: then open it anew in UCloud.";
