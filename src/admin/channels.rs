//! Channels: listed, made, changed and deleted by administrators, one at a time or as a list.

use super::Admin;
use crate::{
    broker::{self, ApplyOptions, ChannelChange, NewMember},
    grpc::{Call, status::RpcError},
    proto::admin::{
        AddChannelMemberRequest, AppliedChannel, ApplyChannelsRequest, ApplyChannelsResponse,
        Channel, ChannelMember, DeleteChannelRequest, DeleteChannelResponse, ListChannelsResponse,
        NewChannel, RemoveChannelMemberRequest, UpdateChannelRequest,
    },
    types::TopicName,
};

impl Admin {
    pub(super) async fn make_channel(
        &self,
        call: &Call,
        request: NewChannel,
    ) -> Result<Channel, RpcError> {
        let principal = self.administrator(call).await?;
        let made = self
            .broker
            .create_channel(&principal, wanted(request))
            .await?;
        Ok(message(&made))
    }

    pub(super) async fn channels(&self, call: &Call) -> Result<ListChannelsResponse, RpcError> {
        let principal = self.administrator(call).await?;
        let custom = self.broker.channels(&principal).await?;
        let mut channels = vec![standard(self.broker.change_topics(&principal).await?)];
        channels.extend(custom.iter().map(|channel| message(channel)));
        Ok(ListChannelsResponse { channels })
    }

    pub(super) async fn label_channel(
        &self,
        call: &Call,
        request: UpdateChannelRequest,
    ) -> Result<Channel, RpcError> {
        let change = ChannelChange::Label(request.label);
        self.change_channel(call, &request.name, change).await
    }

    pub(super) async fn add_member(
        &self,
        call: &Call,
        request: AddChannelMemberRequest,
    ) -> Result<Channel, RpcError> {
        let change = ChannelChange::Add(member(request.member.unwrap_or_default()));
        self.change_channel(call, &request.channel_name, change)
            .await
    }

    pub(super) async fn remove_member(
        &self,
        call: &Call,
        request: RemoveChannelMemberRequest,
    ) -> Result<Channel, RpcError> {
        let change = ChannelChange::Remove(request.topic_name);
        self.change_channel(call, &request.channel_name, change)
            .await
    }

    async fn change_channel(
        &self,
        call: &Call,
        name: &str,
        change: ChannelChange,
    ) -> Result<Channel, RpcError> {
        let principal = self.administrator(call).await?;
        let changed = self.broker.change_channel(&principal, name, change).await?;
        Ok(message(&changed))
    }

    pub(super) async fn remove_channel(
        &self,
        call: &Call,
        request: DeleteChannelRequest,
    ) -> Result<DeleteChannelResponse, RpcError> {
        let principal = self.administrator(call).await?;
        self.broker
            .delete_channel(&principal, &request.name)
            .await?;
        Ok(DeleteChannelResponse {})
    }

    pub(super) async fn apply(
        &self,
        call: &Call,
        request: ApplyChannelsRequest,
    ) -> Result<ApplyChannelsResponse, RpcError> {
        let principal = self.administrator(call).await?;
        let options = ApplyOptions {
            prune: request.prune,
            dry_run: request.dry_run,
        };
        let channels = request.channels.into_iter().map(wanted).collect();
        let applied = self
            .broker
            .apply_channels(&principal, channels, options)
            .await?;
        let applied = applied.into_iter().map(|applied| AppliedChannel {
            name: applied.name.to_string(),
            outcome: applied.outcome.as_str().to_owned(),
        });
        Ok(ApplyChannelsResponse {
            channels: applied.collect(),
        })
    }
}

fn wanted(request: NewChannel) -> broker::NewChannel {
    broker::NewChannel {
        name: request.name,
        label: request.label,
        members: request.members.into_iter().map(member).collect(),
    }
}

fn member(request: ChannelMember) -> NewMember {
    NewMember {
        topic: request.topic_name,
        // One that is empty is none to the broker too.
        filter: Some(request.filter),
        enriched_fields: request.enriched_fields,
    }
}

fn message(channel: &broker::Channel) -> Channel {
    let member = |member: &broker::ChannelMember| ChannelMember {
        topic_name: member.topic.to_string(),
        filter: match &member.filter {
            Some(filter) => filter.text().to_owned(),
            None => String::new(),
        },
        enriched_fields: member.enriched_fields.clone(),
    };
    Channel {
        name: channel.name.to_string(),
        label: channel.label.clone(),
        members: channel.members.iter().map(member).collect(),
        version: channel.version,
        created_at_ms: channel.created_at.as_millis(),
        standard: false,
    }
}

/// The channel that has every topic of change events and is nowhere stored.
fn standard(topics: Vec<TopicName>) -> Channel {
    let member = |topic: TopicName| ChannelMember {
        topic_name: topic.to_string(),
        ..ChannelMember::default()
    };
    Channel {
        name: TopicName::ALL_CHANGES.to_owned(),
        label: "All change events".to_owned(),
        members: topics.into_iter().map(member).collect(),
        standard: true,
        ..Channel::default()
    }
}
