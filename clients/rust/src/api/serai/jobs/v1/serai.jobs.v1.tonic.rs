// @generated
/// Generated client implementations.
pub mod jobs_service_client {
    #![allow(
        unused_variables,
        dead_code,
        missing_docs,
        clippy::wildcard_imports,
        clippy::let_unit_value,
    )]
    use tonic::codegen::*;
    use tonic::codegen::http::Uri;
    #[derive(Debug, Clone)]
    pub struct JobsServiceClient<T> {
        inner: tonic::client::Grpc<T>,
    }
    impl JobsServiceClient<tonic::transport::Channel> {
        /// Attempt to create a new client by connecting to a given endpoint.
        pub async fn connect<D>(dst: D) -> Result<Self, tonic::transport::Error>
        where
            D: TryInto<tonic::transport::Endpoint>,
            D::Error: Into<StdError>,
        {
            let conn = tonic::transport::Endpoint::new(dst)?.connect().await?;
            Ok(Self::new(conn))
        }
    }
    impl<T> JobsServiceClient<T>
    where
        T: tonic::client::GrpcService<tonic::body::Body>,
        T::Error: Into<StdError>,
        T::ResponseBody: Body<Data = Bytes> + std::marker::Send + 'static,
        <T::ResponseBody as Body>::Error: Into<StdError> + std::marker::Send,
    {
        pub fn new(inner: T) -> Self {
            let inner = tonic::client::Grpc::new(inner);
            Self { inner }
        }
        pub fn with_origin(inner: T, origin: Uri) -> Self {
            let inner = tonic::client::Grpc::with_origin(inner, origin);
            Self { inner }
        }
        pub fn with_interceptor<F>(
            inner: T,
            interceptor: F,
        ) -> JobsServiceClient<InterceptedService<T, F>>
        where
            F: tonic::service::Interceptor,
            T::ResponseBody: Default,
            T: tonic::codegen::Service<
                http::Request<tonic::body::Body>,
                Response = http::Response<
                    <T as tonic::client::GrpcService<tonic::body::Body>>::ResponseBody,
                >,
            >,
            <T as tonic::codegen::Service<
                http::Request<tonic::body::Body>,
            >>::Error: Into<StdError> + std::marker::Send + std::marker::Sync,
        {
            JobsServiceClient::new(InterceptedService::new(inner, interceptor))
        }
        /// Compress requests with the given encoding.
        ///
        /// This requires the server to support it otherwise it might respond with an
        /// error.
        #[must_use]
        pub fn send_compressed(mut self, encoding: CompressionEncoding) -> Self {
            self.inner = self.inner.send_compressed(encoding);
            self
        }
        /// Enable decompressing responses.
        #[must_use]
        pub fn accept_compressed(mut self, encoding: CompressionEncoding) -> Self {
            self.inner = self.inner.accept_compressed(encoding);
            self
        }
        /// Limits the maximum size of a decoded message.
        ///
        /// Default: `4MB`
        #[must_use]
        pub fn max_decoding_message_size(mut self, limit: usize) -> Self {
            self.inner = self.inner.max_decoding_message_size(limit);
            self
        }
        /// Limits the maximum size of an encoded message.
        ///
        /// Default: `usize::MAX`
        #[must_use]
        pub fn max_encoding_message_size(mut self, limit: usize) -> Self {
            self.inner = self.inner.max_encoding_message_size(limit);
            self
        }
        pub async fn create(
            &mut self,
            request: impl tonic::IntoRequest<super::CreateRequest>,
        ) -> std::result::Result<tonic::Response<super::CreateResponse>, tonic::Status> {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/serai.jobs.v1.JobsService/Create",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(GrpcMethod::new("serai.jobs.v1.JobsService", "Create"));
            self.inner.unary(req, path, codec).await
        }
        pub async fn submit(
            &mut self,
            request: impl tonic::IntoRequest<super::SubmitRequest>,
        ) -> std::result::Result<tonic::Response<super::SubmitResponse>, tonic::Status> {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/serai.jobs.v1.JobsService/Submit",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(GrpcMethod::new("serai.jobs.v1.JobsService", "Submit"));
            self.inner.unary(req, path, codec).await
        }
        pub async fn create_bulk(
            &mut self,
            request: impl tonic::IntoRequest<super::CreateBulkRequest>,
        ) -> std::result::Result<
            tonic::Response<super::CreateBulkResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/serai.jobs.v1.JobsService/CreateBulk",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(GrpcMethod::new("serai.jobs.v1.JobsService", "CreateBulk"));
            self.inner.unary(req, path, codec).await
        }
        pub async fn extend(
            &mut self,
            request: impl tonic::IntoRequest<super::ExtendRequest>,
        ) -> std::result::Result<tonic::Response<super::ExtendResponse>, tonic::Status> {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/serai.jobs.v1.JobsService/Extend",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(GrpcMethod::new("serai.jobs.v1.JobsService", "Extend"));
            self.inner.unary(req, path, codec).await
        }
        pub async fn open_interactive_session(
            &mut self,
            request: impl tonic::IntoRequest<super::OpenInteractiveSessionRequest>,
        ) -> std::result::Result<
            tonic::Response<super::OpenInteractiveSessionResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/serai.jobs.v1.JobsService/OpenInteractiveSession",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(
                    GrpcMethod::new(
                        "serai.jobs.v1.JobsService",
                        "OpenInteractiveSession",
                    ),
                );
            self.inner.unary(req, path, codec).await
        }
        pub async fn suspend(
            &mut self,
            request: impl tonic::IntoRequest<super::SuspendRequest>,
        ) -> std::result::Result<
            tonic::Response<super::SuspendResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/serai.jobs.v1.JobsService/Suspend",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(GrpcMethod::new("serai.jobs.v1.JobsService", "Suspend"));
            self.inner.unary(req, path, codec).await
        }
        pub async fn unsuspend(
            &mut self,
            request: impl tonic::IntoRequest<super::UnsuspendRequest>,
        ) -> std::result::Result<
            tonic::Response<super::UnsuspendResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/serai.jobs.v1.JobsService/Unsuspend",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(GrpcMethod::new("serai.jobs.v1.JobsService", "Unsuspend"));
            self.inner.unary(req, path, codec).await
        }
        pub async fn terminate(
            &mut self,
            request: impl tonic::IntoRequest<super::TerminateRequest>,
        ) -> std::result::Result<
            tonic::Response<super::TerminateResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/serai.jobs.v1.JobsService/Terminate",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(GrpcMethod::new("serai.jobs.v1.JobsService", "Terminate"));
            self.inner.unary(req, path, codec).await
        }
        pub async fn update_acl(
            &mut self,
            request: impl tonic::IntoRequest<super::UpdateAclRequest>,
        ) -> std::result::Result<
            tonic::Response<super::UpdateAclResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/serai.jobs.v1.JobsService/UpdateAcl",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(GrpcMethod::new("serai.jobs.v1.JobsService", "UpdateAcl"));
            self.inner.unary(req, path, codec).await
        }
        pub async fn verify(
            &mut self,
            request: impl tonic::IntoRequest<super::VerifyRequest>,
        ) -> std::result::Result<tonic::Response<super::VerifyResponse>, tonic::Status> {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/serai.jobs.v1.JobsService/Verify",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(GrpcMethod::new("serai.jobs.v1.JobsService", "Verify"));
            self.inner.unary(req, path, codec).await
        }
        pub async fn follow(
            &mut self,
            request: impl tonic::IntoRequest<super::FollowRequest>,
        ) -> std::result::Result<
            tonic::Response<tonic::codec::Streaming<super::FollowResponse>>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/serai.jobs.v1.JobsService/Follow",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(GrpcMethod::new("serai.jobs.v1.JobsService", "Follow"));
            self.inner.server_streaming(req, path, codec).await
        }
        pub async fn retrieve_products(
            &mut self,
            request: impl tonic::IntoRequest<super::RetrieveProductsRequest>,
        ) -> std::result::Result<
            tonic::Response<super::RetrieveProductsResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/serai.jobs.v1.JobsService/RetrieveProducts",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(
                    GrpcMethod::new("serai.jobs.v1.JobsService", "RetrieveProducts"),
                );
            self.inner.unary(req, path, codec).await
        }
        pub async fn retrieve_utilization(
            &mut self,
            request: impl tonic::IntoRequest<super::RetrieveUtilizationRequest>,
        ) -> std::result::Result<
            tonic::Response<super::RetrieveUtilizationResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/serai.jobs.v1.JobsService/RetrieveUtilization",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(
                    GrpcMethod::new("serai.jobs.v1.JobsService", "RetrieveUtilization"),
                );
            self.inner.unary(req, path, codec).await
        }
        pub async fn on_updated_labels(
            &mut self,
            request: impl tonic::IntoRequest<super::OnUpdatedLabelsRequest>,
        ) -> std::result::Result<
            tonic::Response<super::OnUpdatedLabelsResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/serai.jobs.v1.JobsService/OnUpdatedLabels",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(GrpcMethod::new("serai.jobs.v1.JobsService", "OnUpdatedLabels"));
            self.inner.unary(req, path, codec).await
        }
        pub async fn request_dynamic_parameters(
            &mut self,
            request: impl tonic::IntoRequest<super::RequestDynamicParametersRequest>,
        ) -> std::result::Result<
            tonic::Response<super::RequestDynamicParametersResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/serai.jobs.v1.JobsService/RequestDynamicParameters",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(
                    GrpcMethod::new(
                        "serai.jobs.v1.JobsService",
                        "RequestDynamicParameters",
                    ),
                );
            self.inner.unary(req, path, codec).await
        }
        pub async fn attach_resource(
            &mut self,
            request: impl tonic::IntoRequest<super::AttachResourceRequest>,
        ) -> std::result::Result<
            tonic::Response<super::AttachResourceResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/serai.jobs.v1.JobsService/AttachResource",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(GrpcMethod::new("serai.jobs.v1.JobsService", "AttachResource"));
            self.inner.unary(req, path, codec).await
        }
        pub async fn detach_resource(
            &mut self,
            request: impl tonic::IntoRequest<super::DetachResourceRequest>,
        ) -> std::result::Result<
            tonic::Response<super::DetachResourceResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/serai.jobs.v1.JobsService/DetachResource",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(GrpcMethod::new("serai.jobs.v1.JobsService", "DetachResource"));
            self.inner.unary(req, path, codec).await
        }
        pub async fn open_terminal_in_folder(
            &mut self,
            request: impl tonic::IntoRequest<super::OpenTerminalInFolderRequest>,
        ) -> std::result::Result<
            tonic::Response<super::OpenTerminalInFolderResponse>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/serai.jobs.v1.JobsService/OpenTerminalInFolder",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(
                    GrpcMethod::new("serai.jobs.v1.JobsService", "OpenTerminalInFolder"),
                );
            self.inner.unary(req, path, codec).await
        }
        pub async fn disown(
            &mut self,
            request: impl tonic::IntoRequest<super::DisownRequest>,
        ) -> std::result::Result<tonic::Response<super::DisownResponse>, tonic::Status> {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/serai.jobs.v1.JobsService/Disown",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(GrpcMethod::new("serai.jobs.v1.JobsService", "Disown"));
            self.inner.unary(req, path, codec).await
        }
        pub async fn get(
            &mut self,
            request: impl tonic::IntoRequest<super::GetRequest>,
        ) -> std::result::Result<tonic::Response<super::GetResponse>, tonic::Status> {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/serai.jobs.v1.JobsService/Get",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(GrpcMethod::new("serai.jobs.v1.JobsService", "Get"));
            self.inner.unary(req, path, codec).await
        }
        pub async fn list(
            &mut self,
            request: impl tonic::IntoRequest<super::ListRequest>,
        ) -> std::result::Result<tonic::Response<super::ListResponse>, tonic::Status> {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/serai.jobs.v1.JobsService/List",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(GrpcMethod::new("serai.jobs.v1.JobsService", "List"));
            self.inner.unary(req, path, codec).await
        }
        pub async fn watch(
            &mut self,
            request: impl tonic::IntoRequest<super::WatchRequest>,
        ) -> std::result::Result<
            tonic::Response<tonic::codec::Streaming<super::WatchResponse>>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = tonic_prost::ProstCodec::default();
            let path = http::uri::PathAndQuery::from_static(
                "/serai.jobs.v1.JobsService/Watch",
            );
            let mut req = request.into_request();
            req.extensions_mut()
                .insert(GrpcMethod::new("serai.jobs.v1.JobsService", "Watch"));
            self.inner.server_streaming(req, path, codec).await
        }
    }
}
