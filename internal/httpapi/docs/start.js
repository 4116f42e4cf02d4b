// Nothing is loaded from elsewhere: no validator, no fonts, no other contract.
SwaggerUIBundle({
  url: "openapi.yaml",
  dom_id: "#api",
  deepLinking: true,
  validatorUrl: null,
  showExtensions: true,
  persistAuthorization: false,
});
