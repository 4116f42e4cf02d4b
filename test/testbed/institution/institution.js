// An institution's OpenID provider for tests: npm's oidc-provider, which is
// certified and not ours. It knows the users that stand in the settings, whose
// password is their name backwards; claims are theirs as they stand there.
//
//   node institution.js SETTINGS.json
//
// SETTINGS: {port, client: {id, secret, redirect_uri, backchannel_logout_uri},
// users: {NAME: {claims}}}. It prints its issuer when it is ready, and ends
// with its standard input. A user's claims can be changed while it runs:
// PUT /test/users/NAME with new ones, DELETE for a leaver; both on loopback.
// Otherwise it is as strict as it comes: PKCE, and offline access only for who
// was asked (prompt=consent), so that a sign-out ends every other token.
import { readFileSync } from 'node:fs';
import http from 'node:http';
import { Provider } from 'oidc-provider';

const settings = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const users = new Map(Object.entries(settings.users));
const issuer = `http://localhost:${settings.port}`;

const page = (title, body) => `<!doctype html><html lang="en"><meta charset="utf-8"><title>${title}</title><main><h1>${title}</h1>${body}</main>`;
const escape = (s) => String(s).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

const provider = new Provider(issuer, {
  clients: [{
    client_id: settings.client.id,
    client_secret: settings.client.secret,
    redirect_uris: [settings.client.redirect_uri],
    post_logout_redirect_uris: [],
    backchannel_logout_uri: settings.client.backchannel_logout_uri,
    backchannel_logout_session_required: true,
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
  }],
  claims: { openid: ['sub'], profile: ['preferred_username', 'name', 'groups'], email: ['email', 'email_verified'] },
  conformIdTokenClaims: false,
  features: { devInteractions: { enabled: false }, backchannelLogout: { enabled: true }, rpInitiatedLogout: { enabled: true } },
  cookies: { keys: ['only for tests'] },
  pkce: { required: () => true },
  findAccount: async (ctx, id) => (users.has(id) ? { accountId: id, claims: async () => ({ sub: id, ...users.get(id) }) } : undefined),
  interactions: { url: (ctx, interaction) => `/interaction/${interaction.uid}` },
  loadExistingGrant: async (ctx) => {
    const grant = new provider.Grant({ clientId: ctx.oidc.client.clientId, accountId: ctx.oidc.session.accountId });
    grant.addOIDCScope('openid profile email offline_access');
    await grant.save();
    return grant;
  },
});

provider.on('server_error', (ctx, err) => console.error(err));

const handle = provider.callback();
const body = (req) => new Promise((resolve) => {
  let text = '';
  req.on('data', (chunk) => { text += chunk; }).on('end', () => resolve(text));
});

const server = http.createServer(async (req, res) => {
  const url = new URL(req.url, issuer);
  const test = url.pathname.match(/^\/test\/users\/([a-z0-9-]+)$/);
  if (test && req.method === 'PUT') {
    users.set(test[1], JSON.parse(await body(req)));
    res.writeHead(204).end();
    return;
  }
  if (test && req.method === 'DELETE') {
    users.delete(test[1]);
    res.writeHead(204).end();
    return;
  }
  if (!url.pathname.startsWith('/interaction/')) {
    handle(req, res);
    return;
  }
  const { prompt } = await provider.interactionDetails(req, res);
  if (prompt.name === 'consent') {
    if (req.method === 'POST') {
      await provider.interactionFinished(req, res, { consent: {} }, { mergeWithLastSubmission: true });
      return;
    }
    res.writeHead(200, { 'content-type': 'text/html; charset=utf-8' }).end(page('Example University', `<form method="post" action="${escape(url.pathname)}">
      <p>HPCSerA wants to know who you are, also later.</p><p><button name="consent" value="yes">Allow</button></p></form>`));
    return;
  }
  if (req.method === 'POST') {
    const form = new URLSearchParams(await body(req));
    const name = form.get('login') ?? '';
    if (users.has(name) && form.get('password') === [...name].reverse().join('')) {
      await provider.interactionFinished(req, res, { login: { accountId: name, amr: ['pwd'] } }, { mergeWithLastSubmission: false });
      return;
    }
  }
  const wrong = req.method === 'POST' ? '<p role="alert">Wrong name or password.</p>' : '';
  res.writeHead(200, { 'content-type': 'text/html; charset=utf-8' }).end(page('Example University', `${wrong}<form method="post" action="${escape(url.pathname)}">
    <p><label>Name <input name="login" autofocus autocomplete="username"></label></p>
    <p><label>Password <input name="password" type="password" autocomplete="current-password"></label></p>
    <p><button>Sign in</button></p></form>`));
});
server.listen(settings.port, '127.0.0.1', () => console.log(issuer));
process.stdin.resume().on('end', () => process.exit(0));
