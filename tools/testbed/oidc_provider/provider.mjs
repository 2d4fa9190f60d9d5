// A certified OpenID provider for tests, on a loopback port.
//
//   node provider.mjs MODULES CONFIGURATION.json
//
// MODULES is a directory with node_modules in it. The configuration says the port, the clients and
// the names of the signing keys, which are made at the start. People log in by naming themselves (`login_hint`), without a password: what is
// tested is what the cloud does with the provider's word. Below /test the tests play the
// administrator of the provider.
import { generateKeyPairSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const [modules, file] = process.argv.slice(2);
const require = createRequire(`${modules}/x.js`);
const { default: Provider } = await import(pathToFileURL(require.resolve('oidc-provider')));
const config = JSON.parse(readFileSync(file, 'utf8'));
const issuer = `http://127.0.0.1:${config.port}`;

const keys = config.keys.map((kid) => {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { ...privateKey.export({ format: 'jwk' }), kid, use: 'sig', alg: 'RS256' };
});

const disabled = new Set();
const people = {
  ada: { name: 'Ada', email: 'ada@example.org', groups: ['staff', 'admins'] },
  bob: { name: 'Bob', email: 'bob@example.org', groups: ['staff'] },
  eve: { name: 'Eve', email: 'eve@example.org', groups: ['guests', 'a;admins'] },
};

const provider = new Provider(issuer, {
  clients: config.clients,
  jwks: { keys },
  cookies: { keys: ['only for tests'] },
  pkce: { methods: ['S256'], required: () => true },
  scopes: ['openid', 'offline_access', 'profile', 'email'],
  claims: { openid: ['sub', 'sid'], profile: ['name', 'groups'], email: ['email'] },
  conformIdTokenClaims: false,
  issueRefreshToken: (ctx, client, code) =>
    client.grantTypeAllowed('refresh_token') && code.scopes.has('offline_access'),
  rotateRefreshToken: true,
  clientBasedCORS: () => false,
  ttl: { AccessToken: 600, IdToken: 600, RefreshToken: 3600, Session: 3600, Grant: 3600,
    Interaction: 600, DeviceCode: 600, AuthorizationCode: 60, ClientCredentials: 600 },
  features: {
    devInteractions: { enabled: false },
    backchannelLogout: { enabled: true },
    clientCredentials: { enabled: true },
    deviceFlow: { enabled: true },
    introspection: { enabled: true, allowedPolicy: () => true },
    userinfo: { enabled: true },
    rpInitiatedLogout: {
      enabled: true,
      logoutSource: (ctx, form) => { ctx.body = form; },
    },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (ctx, resource) => ({
        scope: 'openid read', audience: resource, accessTokenFormat: 'jwt',
        jwt: { sign: { alg: 'RS256' } },
      }),
      useGrantedResource: () => true,
    },
  },
  extraTokenClaims: (ctx, token) =>
    (token.accountId && people[token.accountId] ? people[token.accountId] : undefined),
  findAccount: (ctx, sub) =>
    (people[sub] && !disabled.has(sub)
      ? { accountId: sub, claims: () => ({ sub, ...people[sub] }) }
      : undefined),
  interactions: { url: (ctx, interaction) => `/interaction/${interaction.uid}` },
});

// Everybody who names themselves is let in, and agrees to everything.
provider.use(async (ctx, next) => {
  if (!ctx.path.startsWith('/interaction/')) return next();
  const { params, prompt, session, grantId } = await provider.interactionDetails(ctx.req, ctx.res);
  if (prompt.name === 'login') {
    return provider.interactionFinished(ctx.req, ctx.res, {
      login: { accountId: params.login_hint || 'ada' },
    });
  }
  const grant = (grantId && (await provider.Grant.find(grantId)))
    || new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  grant.addOIDCScope(params.scope);
  return provider.interactionFinished(
    ctx.req, ctx.res, { consent: { grantId: await grant.save() } }, { mergeWithLastSubmission: true },
  );
});

// The administrator of the provider.
provider.use(async (ctx, next) => {
  if (!ctx.path.startsWith('/test/')) return next();
  const { account, user_code: userCode } = ctx.query;
  switch (ctx.path) {
    case '/test/disable': disabled.add(account); break;
    case '/test/enable': disabled.delete(account); break;
    case '/test/approve': {
      const code = await provider.DeviceCode.findByUserCode(userCode.replace(/-/g, ''));
      const grant = new provider.Grant({ accountId: account, clientId: code.clientId });
      grant.addOIDCScope(code.params.scope);
      Object.assign(code, {
        accountId: account, grantId: await grant.save(), scope: code.params.scope,
        claims: {}, authTime: Math.floor(Date.now() / 1000),
      });
      await code.save();
      break;
    }
    // Ends the person's session here, and tells the clients by the back channel.
    case '/test/logout': {
      const session = await provider.Session.findByUid(ctx.query.session);
      const client = await provider.Client.find(ctx.query.client);
      const told = await client.backchannelLogout(account, session ? session.sidFor(client.clientId) : undefined)
        .then(() => 'told', (error) => error.message);
      ctx.body = { told };
      return undefined;
    }
    default: ctx.status = 404; return undefined;
  }
  ctx.body = { done: true };
  return undefined;
});

provider.on('server_error', (ctx, error) => console.error(error));
provider.on('grant.error', (ctx, error) => console.error(error.message, error.error_detail || ''));
provider.on('authorization.error', (ctx, error) => console.error(error.message, error.error_detail || ''));
provider.on('backchannel.error', (ctx, error) => console.error(error.message));

provider.listen(config.port, '127.0.0.1', () => console.log('ready'));
