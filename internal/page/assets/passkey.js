// Passkeys: the only thing on these pages that needs a script. A form with
// data-passkey="get" or "create" asks the browser for a credential before it
// is sent. What to ask for stands in data-options, or is fetched from
// data-options-from when the button is pressed. The answer goes to the server
// as JSON in the form's field "credential".

const decode = (s) => Uint8Array.from(atob(s.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));

const encode = (buffer) =>
  btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");

// readOptions turns the server's JSON into what the browser wants.
function readOptions(json) {
  const o = json.publicKey;
  o.challenge = decode(o.challenge);
  if (o.user) o.user.id = decode(o.user.id);
  for (const list of [o.allowCredentials, o.excludeCredentials]) {
    for (const c of list ?? []) c.id = decode(c.id);
  }
  return o;
}

// writeCredential turns the browser's answer into JSON.
function writeCredential(c) {
  const r = c.response;
  const out = {
    id: c.id, rawId: encode(c.rawId), type: c.type,
    authenticatorAttachment: c.authenticatorAttachment ?? undefined,
    clientExtensionResults: c.getClientExtensionResults(),
    response: { clientDataJSON: encode(r.clientDataJSON) },
  };
  if (r.attestationObject) {
    out.response.attestationObject = encode(r.attestationObject);
    out.response.transports = r.getTransports?.() ?? [];
  } else {
    out.response.authenticatorData = encode(r.authenticatorData);
    out.response.signature = encode(r.signature);
    if (r.userHandle) out.response.userHandle = encode(r.userHandle);
  }
  return JSON.stringify(out);
}

async function fetchOptions(from) {
  const answer = await fetch(from, { method: "POST", headers: { Accept: "application/json" } });
  if (!answer.ok) throw new Error("The server has no passkey request for you now. Load the page again.");
  return answer.json();
}

// words explains the browser's refusals. Which of them it was is hidden on
// purpose by browsers.
function words(err) {
  switch (err.name) {
    case "NotAllowedError": return "No passkey was used: it was cancelled, took too long, or there is none for this site.";
    case "InvalidStateError": return "This device has a passkey for this account already.";
    case "SecurityError": return "The browser allows no passkeys at this address.";
    default: return err.message;
  }
}

for (const form of document.querySelectorAll("form[data-passkey]")) {
  const told = form.querySelector("[data-passkey-problem]");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button");
    told.hidden = true;
    button.disabled = true;
    try {
      if (!window.PublicKeyCredential) throw new Error("This browser has no passkeys.");
      const json = form.dataset.options ? JSON.parse(form.dataset.options) : await fetchOptions(form.dataset.optionsFrom);
      const publicKey = readOptions(json);
      const credential = form.dataset.passkey === "create"
        ? await navigator.credentials.create({ publicKey })
        : await navigator.credentials.get({ publicKey });
      form.elements.credential.value = writeCredential(credential);
      form.submit();
    } catch (err) {
      told.textContent = words(err);
      told.hidden = false;
      button.disabled = false;
    }
  });
}
