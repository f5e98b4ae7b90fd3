#!/bin/bash

BASE_URL="${BASE_URL:-http://localhost:8000}"

# 1. 注册用户
echo "=== 注册用户 ==="
REGISTER_RESPONSE=$(curl -s -X POST "$BASE_URL/auth/register" \
  -H "Content-Type: application/json" \
  -d '{
    "email": "alice@example.com",
    "username": "alice",
    "password": "SecurePass123!"
  }')

echo $REGISTER_RESPONSE | jq .

# 2. 登录
echo -e "\n=== 登录 ==="
LOGIN_RESPONSE=$(curl -s -X POST "$BASE_URL/auth/login" \
  -H "Content-Type: application/json" \
  -d '{
    "email": "alice@example.com",
    "password": "SecurePass123!"
  }')

ACCESS_TOKEN=$(echo $LOGIN_RESPONSE | jq -r '.access_token')
REFRESH_TOKEN=$(echo $LOGIN_RESPONSE | jq -r '.refresh_token')

echo "Access Token: ${ACCESS_TOKEN:0:50}..."
echo "Refresh Token: ${REFRESH_TOKEN:0:50}..."

# 3. AI对话（创建新对话）
echo -e "\n=== AI对话（新对话）==="
CHAT_RESPONSE=$(curl -s -X POST "$BASE_URL/agent/chat" \
  -H "Content-Type: application/json" \
  -H "Authorization: Bearer $ACCESS_TOKEN" \
  -d '{
    "message": "你好，请介绍一下自己"
  }')

echo $CHAT_RESPONSE | jq .
CONVERSATION_ID=$(echo $CHAT_RESPONSE | jq -r '.conversation_id')

# 4. 继续对话
echo -e "\n=== 继续对话 ==="
curl -s -X POST "$BASE_URL/agent/chat" \
  -H "Content-Type: application/json" \
  -H "Authorization: Bearer $ACCESS_TOKEN" \
  -d "{
    \"conversation_id\": $CONVERSATION_ID,
    \"message\": \"你能帮我做什么？\"
  }" | jq .

# 5. 获取对话列表
echo -e "\n=== 对话列表 ==="
curl -s -X GET "$BASE_URL/agent/conversations" \
  -H "Authorization: Bearer $ACCESS_TOKEN" | jq .

# 6. 删除对话
echo -e "\n=== 删除对话 ==="
curl -s -X DELETE "$BASE_URL/agent/conversations/$CONVERSATION_ID" \
  -H "Authorization: Bearer $ACCESS_TOKEN" | jq .

# 7. 登出
echo -e "\n=== 登出 ==="
curl -s -X POST "$BASE_URL/auth/logout?refresh_token=$REFRESH_TOKEN" \
  -H "Authorization: Bearer $ACCESS_TOKEN" | jq .
